"""`python -m benchmarks.tinystories`: LuminaNet's frontier of quality and cost against GPT-2's."""
