"""How a LuminaNet grows: train, mutate, keep or revert, freeze.

Reading order: config, data, batches, network, trainer, mutations, transplant, signals, policies,
evolve, checkpoint, loop, train; baselines/ holds what LuminaNet is compared with.
"""
