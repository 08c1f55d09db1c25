"""A small ONNX graph builder.

Nodes carry the name of the tensor they make, so that a viewer such as Netron shows the network.
What is built twice is the same to the byte: no dates, no counters, no paths.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import helper, numpy_helper

from luminanet.errors import ExportError

OPSET = 20
IR_VERSION = 10
Shape = Sequence[int | str]
"""Sizes; a name stands for a size that is known when the graph runs."""
MICROSOFT = "com.microsoft"
MAX_MODEL_BYTES = (1 << 31) - (1 << 20)
"""What one protobuf file can hold (2 GB), less room for the nodes."""


class Graph:
    """Collects nodes and constants; tensors are named by strings."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._bytes = 0

    def input(self, name: str, dtype: DTypeLike, shape: Shape) -> str:
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: DTypeLike, shape: Shape) -> None:
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Adds an initialiser, or shares the one of this name, which must be the same.

        Raises ExportError when one ONNX file cannot hold all of them.
        """
        if name in self._constants:
            assert np.array_equal(self._constants[name], array, equal_nan=True), name
            return name
        self._bytes += array.nbytes
        if self._bytes > MAX_MODEL_BYTES:
            raise ExportError(
                f"{self._name} needs more than {MAX_MODEL_BYTES} bytes of weights, and one ONNX "
                "file holds 2 GB: train a network with fewer or narrower clusters"
            )
        self._constants[name] = np.asarray(array, order="C")
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Adds a node with one output, which bears the node's name."""
        self.nodes(op, inputs, name, [name], **attributes)
        return name

    def nodes(
        self, op: str, inputs: Sequence[str], name: str, outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Adds a node with several outputs."""
        self._nodes.append(helper.make_node(op, inputs, outputs, name, **attributes))

    def concat(self, tensors: Sequence[str], name: str, axis: int = 1) -> str:
        """Side by side along an axis; a single tensor is itself."""
        return tensors[0] if len(tensors) == 1 else self.node("Concat", tensors, name, axis=axis)

    def split(self, tensor: str, names: Sequence[str]) -> list[str]:
        """[batch, n, K] -> n tensors [batch, K]."""
        flat = self.node("Flatten", [tensor], f"{tensor}/flat", axis=1)
        self.nodes("Split", [flat], f"{tensor}/split", names, axis=1, num_outputs=len(names))
        return list(names)

    def cut(self, tensor: str, names: Sequence[str], sizes: Sequence[int]) -> list[str]:
        """[batch, sum of sizes] -> tensors [batch, size]; a single one is itself."""
        if len(names) == 1:
            return [tensor]
        bounds = self.constant(f"{tensor}/sizes", np.array(sizes))
        self.nodes("Split", [tensor, bounds], f"{tensor}/cut", names, axis=1)
        return list(names)

    def build(self) -> onnx.ModelProto:
        weights = [numpy_helper.from_array(array, n) for n, array in self._constants.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, weights)
        domains = {"": OPSET} | {n.domain: 1 for n in self._nodes if n.domain == MICROSOFT}
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="luminanet"
        )


def _value(name: str, dtype: DTypeLike, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )
