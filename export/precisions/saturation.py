"""The oracle for CPUs without VNNI: int8 products as their kernels compute them, on any machine.

onnxruntime's u8 x s8 kernels for SSE4.1, AVX2 and AVX512 without VNNI multiply with `vpmaddubsw`:
two neighbouring products are added in 16 bits, and cut off at -32768 and 32767. `saturated` is
that formula, to the bit (test_integers.py asks the CPU that it runs on). `saturating`
writes it into a graph, so that a whole network can be assessed so. Shape legend: that of
rewrite.py.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.precisions.rewrite import Body, Nodes, rewrite

LEAST, MOST = -(1 << 15), (1 << 15) - 1
PRODUCT = "MatMulIntegerToFloat"


def saturated(x_BK: NDArray[np.uint8], weights_KN: NDArray[np.int8]) -> NDArray[np.int64]:
    """x @ weights, with pairs of products along K cut off at 16 bits."""
    odd = weights_KN.shape[-2] % 2
    x_BK = np.pad(x_BK.astype(np.int64), ((0, 0), (0, odd)))
    weights_KN = np.pad(weights_KN.astype(np.int64), ((0, odd), (0, 0)))
    # Neighbours along K meet in one register of 16 bits: the even ones with the odd ones.
    pairs_BJN = x_BK[:, 0::2, None] * weights_KN[0::2] + x_BK[:, 1::2, None] * weights_KN[1::2]
    return np.asarray(pairs_BJN.clip(LEAST, MOST).sum(1))


def saturating(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph in int8 (cpu.py) that computes on every CPU what one without VNNI does."""
    return rewrite(model, _saturating)


def _saturating(body: Body) -> Nodes:
    nodes: Nodes = []
    for node in body.nodes:
        nodes += _product(body, node) if node.op_type == PRODUCT else [node]
    return nodes


def _product(body: Body, node: onnx.NodeProto) -> Nodes:
    """((saturated x @ w) - x_zero * sum of w) * x_scale * scales + bias, standard operators."""
    x, weights, x_scale, scales, x_zero, *rest = node.input
    bias = rest[1] if len(rest) > 1 else ""
    tensor = body.constant(weights)
    assert tensor is not None, weights
    whole_KN = np.asarray(numpy_helper.to_array(tensor), np.float32)
    odd = whole_KN.shape[-2] % 2
    widths = [(0, 0)] * (whole_KN.ndim - 2) + [(0, odd), (0, 0)]
    pairs = np.pad(whole_KN, widths)
    graph = _Nodes(body, node.name)
    whole = graph.add("Cast", [x], to=TensorProto.FLOAT)
    padded = graph.add("Pad", [whole, graph.constant([0, odd]), "", graph.constant([-1])])
    products = []
    for first in (0, 1):
        part = graph.add("Slice", [padded, *map(graph.constant, ([first], [1 << 30], [-1], [2]))])
        column = graph.add("Unsqueeze", [part, graph.constant([-1])])
        stack = pairs[..., None, first::2, :]
        products.append(graph.add("Mul", [column, graph.constant(stack, np.float32)]))
    both = graph.add("Add", products)
    limits = [graph.constant(limit, np.float32) for limit in (LEAST, MOST)]
    exact = graph.add("Cast", [graph.add("Clip", [both, *limits])], to=TensorProto.DOUBLE)
    total = graph.add("ReduceSum", [exact, graph.constant([-2])], keepdims=0)
    sums = graph.constant(whole_KN.sum(-2, keepdims=True), np.float64)
    zero = graph.add("Mul", [graph.add("Cast", [x_zero], to=TensorProto.DOUBLE), sums])
    exact = graph.add("Cast", [graph.add("Sub", [total, zero])], to=TensorProto.FLOAT)
    found = graph.add("Mul", [graph.add("Mul", [exact, x_scale]), scales])
    op, inputs = ("Add", [found, bias]) if bias else ("Identity", [found])
    graph.add(op, inputs, node.output[0])
    return graph.nodes


class _Nodes:
    """Nodes that take the place of one, and their constants."""

    def __init__(self, body: Body, name: str) -> None:
        self.nodes: Nodes = []
        self._body, self._name = body, name

    def add(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        made = output or self._body.fresh(f"{self._name}/{op}")
        self.nodes.append(helper.make_node(op, inputs, [made], made, **attributes))
        return made

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = self._body.fresh(f"{self._name}/constant")
        self._body.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name
