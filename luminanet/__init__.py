"""What a LuminaNet *is*: the vocabulary shared by training, export and serving.

Reading order: errors, topology, frozen, reference, visits, cost, tokenizer, gpt2 (the baseline),
manifest.
"""
