"""fp16 and bf16 in the ONNX types, for runtimes that take their precision from there (TensorRT).

Half precision is what lies on the way to a product with constant weights: products, activations,
norms, look-ups and the copying between them. The interface, running state, sampling, pixel
normalisation and contrib operators stay float32; Casts stand where the two meet. Shape legend:
that of rewrite.py.
"""

from collections.abc import Mapping
from types import MappingProxyType

import ml_dtypes
import numpy as np
import onnx
from onnx import helper

from export.precisions.rewrite import FLOAT, Body, Nodes, reads

FLOAT16, BFLOAT16 = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
NAMES = {FLOAT16: "fp16", BFLOAT16: "bf16"}
DTYPES = {FLOAT16: np.dtype(np.float16), BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
ALL = 1 << 30
PRODUCTS = ("Gemm", "MatMul")
COMPUTE = dict.fromkeys((*PRODUCTS, "Add", "Mul", "LayerNormalization"), ALL)
COMPUTE |= dict.fromkeys(("Gelu", "Relu", "Tanh", "Sigmoid"), 1)
COPY = dict.fromkeys(("Gather", "Slice", "Split", "Flatten", "Reshape", "Transpose", "Expand"), 1)
COPY |= {"Concat": ALL, "Squeeze": 1, "Unsqueeze": 1, "Pad": 1}
DATA: Mapping[str, int] = MappingProxyType(COMPUTE | COPY)
"""Operator -> how many of its first inputs are numbers (the others are sizes and indices)."""


def half(body: Body, to: int, emulated: bool = False) -> Nodes:
    """The nodes of a graph with its products, and what leads to them, in type `to`.

    `emulated` rounds to `to` but computes in float32, as tensor cores do: onnxruntime runs that
    on any CPU, while it has no kernels for most of the real thing.
    """
    chosen = _chosen(body)
    others = [node for node in body.nodes if id(node) not in chosen]
    wanted = reads(others) | body.outputs
    wanted |= {name for node in body.nodes for name in node.input[DATA.get(node.op_type, 0) :]}
    halves: dict[str, str] = {}
    nodes: Nodes = []
    for node in body.nodes:
        if id(node) not in chosen:
            nodes.append(node)
            continue
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for at, name in enumerate(_data(node)):
            if name and name not in halves:
                halves[name], casts = _halved(body, name, to, emulated)
                nodes += casts
            made.input[at] = halves[name] if name else ""
        rounded = emulated and node.op_type in COMPUTE
        before, after = made.output, []
        for at, name in enumerate(node.output):
            if rounded or name in wanted:
                before[at] = body.fresh(f"{name}/{NAMES[to]}")
            halves[name] = before[at]
            if rounded:
                halves[name] = name if name in wanted else body.fresh(f"{name}/rounded")
                after += _round(body, before[at], halves[name], to)
            elif name in wanted:
                after.append(_cast(body, before[at], name, FLOAT))
        nodes += [made, *after]
    return nodes


def _data(node: onnx.NodeProto) -> list[str]:
    return list(node.input[: DATA[node.op_type]])


def _chosen(body: Body) -> set[int]:
    """The ids of the nodes that become half precision."""
    chosen: set[int] = set()
    leading: set[str] = set()
    for node in reversed(body.nodes):
        if node.domain or node.op_type not in DATA:
            continue
        is_product = node.op_type in PRODUCTS and any(
            body.weights(name) is not None for name in node.input[:2]
        )
        is_kept = body.outputs.intersection(node.output)
        if is_product or (leading.intersection(node.output) and not is_kept):
            chosen.add(id(node))
            leading.update(_data(node))
    return chosen


def _halved(body: Body, name: str, to: int, emulated: bool) -> tuple[str, Nodes]:
    """A float32 tensor in type `to` (emulated: rounded to it), and the nodes that make it."""
    array = body.weights(name)
    if array is not None:
        rounded = array.astype(DTYPES[to])
        stored = rounded.astype(np.float32) if emulated else rounded
        return body.derive(name, NAMES[to], stored), []
    made = body.fresh(f"{name}/{NAMES[to]}")
    return made, _round(body, name, made, to) if emulated else [_cast(body, name, made, to)]


def _round(body: Body, name: str, rounded: str, to: int) -> Nodes:
    short = body.fresh(f"{rounded}/short")
    return [_cast(body, name, short, to), _cast(body, short, rounded, FLOAT)]


def _cast(body: Body, name: str, made: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [made], body.fresh(f"{made}/cast"), to=to)
