"""What computes: engine (a thread behind a queue), text (continuous batching), sequences (their
state), detokenize, images (micro-batching), selftest."""
