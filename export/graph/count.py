"""What a graph makes a runtime do: multiply-accumulates, and luminanet.cost.model.Work."""

from math import prod

import onnx

from luminanet.cost.model import Work
from luminanet.interface import is_past


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one batch row (text: one token) in products with constant matrices.

    A product [.., K] @ [K, N] counts K * N; a pooling product [N, W] @ [batch, W, E] counts
    N * W * E, and so does one of two computed tensors; average pooling of images counts their
    pixels. Look-ups are left out, and attention over a cache, whose part in use differs from token
    to token.
    """
    is_cached = any(is_past(value.name) for value in model.graph.input)
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    others: list[tuple[str, str]] = []
    for node in model.graph.node:
        if node.op_type == "AveragePool":
            (images,) = (value for value in model.graph.input if value.name == node.input[0])
            total += prod(size.dim_value for size in images.type.tensor_type.shape.dim[1:])
        if node.op_type in ("Gemm", "MatMul"):
            left, right = node.input[:2]
            if right in constants:
                total += prod(constants[right])
            elif left in constants or not is_cached:
                others.append((left, right))
    shapes = _sizes(model) | constants if others else {}  # which takes seconds for a large network
    for left, right in others:
        total += prod(shapes[left]) * shapes[right][-1]
    return total


def _sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor name -> its shape (0 where unknown), for a batch of one row."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for tensor in single.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.ClearField("raw_data")  # weights decide no shape, and take long to hand over
    for value in single.graph.input:
        for size in value.type.tensor_type.shape.dim:
            if size.HasField("dim_param"):
                size.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in inferred.value_info}
    shapes |= {value.name: value.type.tensor_type.shape.dim for value in single.graph.input}
    return {name: tuple(size.dim_value for size in shape) for name, shape in shapes.items()}


def work_of(model: onnx.ModelProto) -> Work:
    """Of a graph of LuminaNet; sums over lags count as products, look-ups are left out."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    products = (node for node in model.graph.node if node.op_type == "MatMul")
    # A constant with a matrix per cluster has three axes.
    stacks = [sizes[node.input[1]] for node in products if len(sizes.get(node.input[1], ())) > 2]
    batched = sum(map(prod, stacks))
    depth: dict[str, int] = {}
    for node in model.graph.node:
        steps = 1 + max((depth.get(name, 0) for name in node.input), default=0)
        depth.update(dict.fromkeys(node.output, steps))
    steps = max(depth.values())
    return Work(len(model.graph.node), steps, macs(model) - batched, batched)
