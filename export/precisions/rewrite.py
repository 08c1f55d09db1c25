"""Graph -> graph, one (sub)graph after the other: what all precisions have in common.

A precision says what becomes of the nodes of one graph, given as a Body: the bodies of Loop, If and
Scan are graphs of their own that also read the tensors around them. Weights are changed where they
are kept, once, however many nodes share them. Shape legend of this package: B batch, K inputs and
N outputs of a product, G blocks and J inputs of a block, V rows of a table.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graph.builder import MICROSOFT

FLOAT = onnx.TensorProto.FLOAT
Nodes = list[onnx.NodeProto]
Change = Callable[["Body"], Nodes]
"""The new nodes of a graph, in an order in which they can run."""


class Body:
    """One graph, the graphs around it, and names that are free in the whole model."""

    def __init__(self, graph: onnx.GraphProto, outer: "Body | None", taken: set[str]) -> None:
        self.graph = graph
        self.nodes: Nodes = list(graph.node)
        self.outputs = {output.name for output in graph.output}
        self._outer = outer
        self._taken = taken
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._made: dict[tuple[object, ...], str] = {}

    def constant(self, name: str) -> onnx.TensorProto | None:
        """The initialiser of this name, of this graph or one around it; None if it is none."""
        owner = self._owner(name)
        return owner._constants[name] if owner else None

    def weights(self, name: str) -> NDArray[Any] | None:
        """A float32 initialiser as an array; None for any other tensor."""
        tensor = self.constant(name)
        if tensor is None or tensor.data_type != FLOAT:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def derive(self, origin: str, kind: str, array: NDArray[Any], key: object = None) -> str:
        """The name of `array`, the `kind` made from initialiser `origin`: kept beside it, once.

        `key` tells arrays of one kind apart.
        """
        owner = self._owner(origin)
        assert owner, origin
        if (origin, kind, key) not in owner._made:
            name = self.fresh(f"{origin}/{kind}")
            owner.graph.initializer.append(numpy_helper.from_array(array, name))
            owner._made[origin, kind, key] = name
        return owner._made[origin, kind, key]

    def fresh(self, name: str) -> str:
        """`name`, with a number when the model has a tensor of that name already."""
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}/{number}"
        self._taken.add(found)
        return found

    def _owner(self, name: str) -> "Body | None":
        body: Body | None = self
        while body and name not in body._constants:
            body = body._outer
        return body


@dataclass(frozen=True, slots=True)
class Product:
    """y = x @ weights_KN + plus: a Gemm or MatMul whose right operand is constant."""

    node: onnx.NodeProto
    x: str
    weights: str
    weights_KN: NDArray[Any]
    key: tuple[int, float]
    plus: str | None

    @property
    def y(self) -> str:
        return str(self.node.output[0])


def product(body: Body, node: onnx.NodeProto) -> Product | None:
    """The product that a node computes; None for any other node."""
    if node.op_type not in ("Gemm", "MatMul"):
        return None
    weights = body.weights(node.input[1])
    if weights is None or weights.ndim not in (2, 3) or body.constant(node.input[0]) is not None:
        return None
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if given.get("transA", 0) or given.get("beta", 1.0) != 1:
        return None
    transposed, alpha = int(given.get("transB", 0)), float(given.get("alpha", 1.0))
    weights_KN = weights.swapaxes(-1, -2) if transposed else weights
    weights_KN = weights_KN * np.float32(alpha)
    plus = node.input[2] if len(node.input) > 2 and node.input[2] else None
    return Product(node, node.input[0], node.input[1], weights_KN, (transposed, alpha), plus)


def rewrite(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """A copy in which every graph has the nodes that `change` gives for it; weights that nobody
    reads any more are left out. The interface is the same."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken = {name for graph in graphs(copy.graph) for name in _names(graph)}
    _rewrite(Body(copy.graph, None, taken), change, taken)
    every = list(graphs(copy.graph))
    read = {name for graph in every for node in graph.node for name in node.input}
    read |= {output.name for graph in every for output in graph.output}
    for graph in every:
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:], graph.value_info[:]
        graph.initializer.extend(kept)
    domains = {opset.domain for opset in copy.opset_import}
    if MICROSOFT not in domains and any(n.domain == MICROSOFT for g in every for n in g.node):
        copy.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return copy


def _rewrite(body: Body, change: Change, taken: set[str]) -> None:
    for node in body.nodes:
        for inner in subgraphs(node):
            _rewrite(Body(inner, body, taken), change, taken)
    nodes = [*change(body)]
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del body.graph.node[:]
    body.graph.node.extend(fresh)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs in its nodes, at any depth."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def reads(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """The tensors that nodes, and the graphs in them, read."""
    found = {name for node in nodes for name in node.input}
    for node in nodes:
        for inner in subgraphs(node):
            found |= reads(inner.node) | {output.name for output in inner.output}
    return found


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (value.name for value in graph.input)
    yield from (name for node in graph.node for name in (node.name, *node.output))
