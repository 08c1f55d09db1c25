"""A step -> K steps with the sampler inside: decode; sampler, gumbel (the draw), filters (top-k,
top-p, min-p), counter_rng."""
