"""A graph in other precisions: table has a row for each, convert is the door.

rewrite (graph -> graph), integers (weights rounded to 8 bits), cpu (int8 for onnxruntime),
saturation (what CPUs without VNNI make of it), half (fp16, bf16), qdq (int8 for TensorRT).
"""
