"""How the network changes itself.

operators say what a change is, signals, worth and field_gradients measure, field_candidates and
policies rank, schedule says when and how many, transplant carries weights and optimizer state
across, budget prices, evolve keeps or reverts. selection prunes what was overproduced.
"""
