"""GPT-2 -> graph (cached, standard_ops), and from a Hugging Face directory (huggingface, config,
weight_files, json_files)."""
