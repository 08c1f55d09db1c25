"""ONNX graphs: builder, region (branches and loops), splice, declare (inputs and outputs),
session (onnxruntime)."""
