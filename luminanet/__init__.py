"""What a LuminaNet *is*: the vocabulary shared by training, export and serving.

Reading order:

    errors       one tree of errors, and how a command ends
    fields       receptive fields: patches, lags, pools, induction look-ups (recalls)
    topology     clusters, connections, levels
    frozen       a topology with its weights
    reference    the oracle: the two-pass forward in numpy
    schedule     which visits of the two passes matter
    cost/        work: multiply-accumulates, what a graph makes a runtime do; predicted latency
    tokenizer    byte-level BPE
    sampling     the oracle of the sampler (Gumbel-max): logits -> a token
    gpt2         the baseline, and its reference
    artifact/    what a frozen network is on disk, and how it proves itself
    interface    every tensor that a graph takes and gives, by family and role
    finite, untrusted, machine    weights that are numbers, JSON from elsewhere, what a CPU has
"""
