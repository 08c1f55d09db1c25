"""How a trained LuminaNet becomes fast: static ONNX graphs, checked, in one directory.

Reading order:

    graph              a small ONNX builder, and what a graph costs
    inputs, sight      what clusters see, as nodes
    forms              the ways to write the two passes down
      clusterwise        connection, concat, bus: cluster by cluster
      levelwise          shared, block: level by level
      shared, block
    unroll             LuminaNet -> graph, in one of the forms
    choose             which form: a cost model, or a measurement (timing)
    baseline           GPT-2 -> graph; plain_gpt2 of standard operators, for TensorRT
    verify             graph against the numpy reference, by onnxruntime (running)
    precisions/        the same graph in int8, fp16, bf16; what that loses (integers: how weights
                       are rounded; saturation: what CPUs without VNNI would make of them)
    examples           real inputs, which assess and calibrate
    variants           network -> all graphs of an artifact
    probing            what the reference answers, for machines to come; an artifact tried here
    pack               graphs -> the files of an artifact
    huggingface        a GPT-2 directory -> network (gpt2_config, weight_files, json_files)
    freeze             the command line: these arrows in order (command: how it ends)
    show               an artifact, for people

    decode             graph of one step -> K steps and the sampler in one call (splice)
      sampler            luminanet/sampling.py as nodes (region: branches and loops)
        races              the draw
        limits, uniforms   what it refuses, and its random numbers

    build_engine       graph -> TensorRT plan (engine_shapes, engine_process, engine_worker)
    triton_repository  artifact -> Triton model repository (triton_config)

Only freeze needs torch, to read a checkpoint; verify, precisions and timing need onnxruntime.
"""
