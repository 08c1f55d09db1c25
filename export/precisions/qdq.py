"""int8 with fixed scales, as pairs of QuantizeLinear and DequantizeLinear: what TensorRT takes.

Weights have a scale per column; what a product reads has one scale, calibrated on real inputs.
Zero is 0 everywhere. A product without a calibrated input stays float32, and so do matrices on the
left, stacks of matrices and look-up tables. Shape legend: that of rewrite.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graph.session import Session
from export.precisions.cpu import is_worth_it
from export.precisions.integers import LEVELS, Rounding, columns
from export.precisions.rewrite import FLOAT, Body, Nodes, Product, product, rewrite

Feeds = Mapping[str, NDArray[Any]]
Ranges = Mapping[str, float]
"""Tensor -> its largest absolute value; what is larger is clipped to it."""
MIN_WEIGHTS = 4_096
WHOLE_RANGE = Rounding(pairs=False)
"""TensorRT adds all products in 32 bits."""


def calibrate(model: onnx.ModelProto, batches: Iterable[Feeds]) -> Ranges:
    """The ranges of what the products of a float32 graph read, over batches of real inputs.

    A tensor of a nested graph takes the range of the tensor of its name, if another graph of the
    same network was calibrated: pass that graph here, and its ranges to `quantised`.
    """
    body = Body(model.graph, None, set())
    found = [p for node in body.nodes if (p := product(body, node)) and _is_worth_it(p)]
    wanted = list(dict.fromkeys(p.x for p in found))
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    known = {output.name for output in model.graph.output}
    for name in wanted:
        if name not in known:
            value = helper.make_tensor_value_info(name, FLOAT, None)
            observed.graph.output.append(value)
    session = Session(observed)
    ranges = dict.fromkeys(wanted, 0.0)
    for feeds in batches:
        tensors = session.run(feeds)
        for name in wanted:
            ranges[name] = max(ranges[name], float(np.abs(tensors[name]).max()))
    return ranges


def quantised(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The graph with its large products between pairs of quantisation."""
    return rewrite(model, lambda body: _quantised(body, ranges))


def _quantised(body: Body, ranges: Ranges) -> Nodes:
    nodes: Nodes = []
    pairs: dict[str, str] = {}
    for node in body.nodes:
        p = product(body, node)
        if p is None or not _is_worth_it(p) or not ranges.get(p.x):
            nodes.append(node)
            continue
        if p.x not in pairs:
            pairs[p.x], pair = _pair(body, p.x, ranges[p.x])
            nodes += pair
        nodes += _product(body, p, pairs[p.x])
    return nodes


def _is_worth_it(p: Product) -> bool:
    return p.weights_KN.ndim == 2 and is_worth_it(p, MIN_WEIGHTS)


def _pair(body: Body, x: str, largest: float) -> tuple[str, Nodes]:
    """x to int8 and back."""
    scale, zero = (body.fresh(f"{x}/{part}") for part in ("scale", "zero"))
    step = np.array(largest / LEVELS, np.float32)
    body.graph.initializer.append(numpy_helper.from_array(step, scale))
    body.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), zero))
    whole, back = body.fresh(f"{x}/int8"), body.fresh(f"{x}/dequantised")
    return back, [
        helper.make_node("QuantizeLinear", [x, scale, zero], [whole], whole),
        helper.make_node("DequantizeLinear", [whole, scale, zero], [back], back),
    ]


def _product(body: Body, p: Product, x: str) -> Nodes:
    whole_KN, scales_N = columns(p.weights_KN, WHOLE_RANGE)
    made = [
        body.derive(p.weights, kind, array, p.key)
        for kind, array in (("int8", whole_KN), ("scales", scales_N), ("zeros", _zeros(scales_N)))
    ]
    weights = body.fresh(f"{p.y}/weights")
    plus = [p.plus] if p.plus else []
    op = p.node.op_type
    return [
        helper.make_node("DequantizeLinear", made, [weights], weights, axis=1),
        helper.make_node(op, [x, weights, *plus], [p.y], p.node.name),
    ]


def _zeros(scales_N: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.zeros(scales_N.shape, np.int8)
