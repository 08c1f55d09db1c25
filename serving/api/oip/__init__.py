"""The Open Inference Protocol v2, which KServe and Triton speak, over our engines:

    errors        our errors in its words
    schemas       what requests and answers look like in JSON
    tensors       elements of a tensor <-> JSON, or bytes
    wire          the body of a request -> Call; tensors -> the body of an answer
    task          a model as the protocol sees it, of which there are
    pictures      image classification, and
    texts         text generation
    statistics    counters in Triton's form
    routes        the endpoints

Sources: https://github.com/kserve/open-inference-protocol, and Triton's extensions of it:
https://github.com/triton-inference-server/server/tree/main/docs/protocol (binary tensor data,
classification, parameters, statistics, the index of model repository).
"""
