"""What a LuminaNet *is*: the vocabulary shared by training, export and serving.

Reading order: errors, topology, frozen, reference, tokenizer, gpt2 (the baseline), manifest.
"""
