"""LuminaNet -> graph.

inputs, recall, echoes and views say what clusters see, projection multiplies it; lowerings are the
ways to write the two passes down (two_pass): cluster by cluster (gate_matrix) or level by level
(levelwise, batched, fused); unroll makes a graph of one, choose says which.
"""
