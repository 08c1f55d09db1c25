"""The narrow door to what computes graphs: backend (what one is), onnxruntime_cpu, tensorrt_gpu,
cuda."""
