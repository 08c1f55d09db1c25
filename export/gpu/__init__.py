"""For TensorRT and Triton: engine_shapes, engine_process, engine_worker, lost_plans,
triton_config."""
