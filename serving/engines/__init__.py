"""What computes: engine (a thread behind a queue), text (continuous batching), sequences (their
state), opened (those whose logits are asked for), pages (the memory of a cache), detokenize, images
(micro-batching), selftest."""
