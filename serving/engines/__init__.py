"""What computes: job (a request and its results), engine (a thread behind a queue), pace (how soon
it has a place), text (continuous batching), sequences (their state), opened (rows whose logits
leave the graph), pages (the memory of a cache), detokenize, images (micro-batching), selftest,
making (a model -> its engine)."""
