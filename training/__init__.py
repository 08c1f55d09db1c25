"""How a LuminaNet grows: train, mutate, keep or revert, freeze.

Reading order: config, data, network, mutations, transplant, evolve, loop, checkpoint, train.
"""
