"""ONNX graphs: builder, region (branches and loops), splice, session (onnxruntime)."""
