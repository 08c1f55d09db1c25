"""ONNX graphs: builder, region (branches and loops), splice, declare (inputs and outputs), count
(their work), session (onnxruntime)."""
