"""What a LuminaNet *is*: the vocabulary shared by training, export and serving.

Reading order: errors, topology, frozen, reference, visits, cost, untrusted (JSON from elsewhere),
tokenizer, sampling (logits -> a token), gpt2 (the baseline), manifest, artifact,
gpu and plan (TensorRT), probes (an artifact proves itself), machine (what a CPU has), folders and
finite (what is written and read is whole).
"""
