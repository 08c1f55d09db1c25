"""The narrow door to what computes graphs: onnxruntime_cpu, tensorrt_gpu, cuda."""
