"""How the network changes itself.

signals and field_gradients measure, field_candidates and policies rank, schedule says when and how
many, mutations, fields and transplant change topology and weights, budget prices, evolve decides.
"""
