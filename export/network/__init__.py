"""LuminaNet -> graph.

image_inputs, text_inputs and views say what clusters see, projection multiplies it; lowerings are
the ways to write the two passes down (two_pass): cluster by cluster (gate_matrix) or level by level
(batched, fused); unroll makes a graph of one, choose says which.
"""
