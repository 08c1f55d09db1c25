"""How a trained LuminaNet becomes fast: static ONNX graphs, checked, in one directory.

Reading order:

    freeze       the command line: the arrows below in order
    graph/       a small ONNX builder, and onnxruntime to run what it builds
    network/     LuminaNet -> graph: the two passes written down, in one of several lowerings
    gpt2/        GPT-2 -> graph, and from a Hugging Face directory
    decoding/    a graph of one step -> K steps with the sampler inside
    precisions/  the same graph in int8, fp16, bf16
    checks/      is it right: against numpy, at its task, on another machine
    assembly/    network -> all graphs of an artifact -> its manifest
    show         an artifact, for people, and tried on this machine
    build_engine, triton_repository    plans and repositories for a GPU, with gpu/

Only freeze needs torch, to read a checkpoint; checks, precisions and timing need onnxruntime. No
folder here may be called like a library (packaging, onnx, ..): `python export/freeze.py` puts this
one first on the path.
"""
