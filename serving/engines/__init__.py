"""What computes: engine (a thread behind a queue), text (continuous batching), sequences (their
state, in pages), detokenize, images (micro-batching), selftest."""
