"""The mutation operators: each is one class that says all there is to say about it.

base, then clusters (split, grow, shrink, remove), connections (connect, disconnect, whole levels)
and fields (add, split, drop a receptive field). schedule.py says when they are tried and how many.
Importing any of them imports all, so that every operator is known by its name.
"""

from training.evolution.operators import base, clusters, connections, fields

__all__ = ["base", "clusters", "connections", "fields"]
