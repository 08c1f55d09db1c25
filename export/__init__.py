"""How a trained LuminaNet becomes fast: a static ONNX graph, checked, in one directory.

Reading order:

    graph       a small ONNX builder, and what a graph costs
    inputs      what clusters see, as nodes
    unroll      LuminaNet -> graph
    baseline    GPT-2 -> graph
    verify      graph against the numpy reference
    pack        graph -> the files of an artifact
    freeze      the command line: these arrows in order

Only freeze needs torch, to read a checkpoint; only verify needs onnxruntime.
"""
