"""How a LuminaNet grows: train, mutate, keep or revert, freeze.

Reading order: seedings, config, data, batches, network, trainer, mutations, transplant, signals,
policies, evolve, checkpoint, task, loop, train. Beside them: baselines/ (what LuminaNet is compared
with), analysis/ (what came of it), exponentiated and distributed (other ways to step).
"""
