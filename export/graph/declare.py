"""luminanet/interface.py <-> the inputs and outputs of a graph."""

import onnx

from export.graph.builder import Graph, Shape
from export.graph.splice import shape, width
from luminanet.errors import ExportError
from luminanet.interface import (
    IMAGES,
    LOGITS,
    TOKENS,
    CacheGraphs,
    Graphs,
    ImageGraphs,
    Interface,
    Tensor,
    WindowGraphs,
    is_past,
)

BATCH, STEPS = "batch", "steps"
"""Names of free sizes: the first of a tensor, and any other."""


def declare(graph: Graph, tensors: Interface) -> None:
    """Gives a graph its inputs and outputs, in their order."""
    for tensor in tensors.inputs:
        graph.input(tensor.name, tensor.dtype, sizes(tensor))
    for tensor in tensors.outputs:
        graph.output(tensor.name, tensor.dtype, sizes(tensor))


def sizes(tensor: Tensor) -> Shape:
    free = (STEPS if axis else BATCH for axis in range(len(tensor.shape)))
    return [name if size is None else size for name, size in zip(free, tensor.shape, strict=True)]


def declared(model: onnx.ModelProto) -> Graphs:
    """What a graph that gives logits was declared from. Raises ExportError for other graphs."""
    inputs = {value.name: shape(value) for value in model.graph.input}
    if LOGITS not in {value.name for value in model.graph.output}:
        raise ExportError("a graph without logits is none of a network: unroll the network again")
    answers = width(model.graph.output, LOGITS)
    pasts = [list(map(_fixed, found[1:])) for name, found in inputs.items() if is_past(name)]
    if pasts:
        heads, context, head_width = pasts[0]
        return CacheGraphs(context, answers, len(pasts) // 2, heads, head_width)
    if TOKENS in inputs:
        return WindowGraphs(_fixed(inputs[TOKENS][-1]), answers)
    if IMAGES in inputs:
        channels, height, columns = map(_fixed, inputs[IMAGES][1:])
        return ImageGraphs((channels, height, columns), answers)
    raise ExportError(f"a graph of {', '.join(inputs)} is none of a network: unroll it again")


def _fixed(size: int | str) -> int:
    assert isinstance(size, int), f"{size} is not a fixed size"
    return size
