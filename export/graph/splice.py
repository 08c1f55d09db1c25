"""A finished graph as a part of another: its nodes are added again, its weights shared."""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import numpy_helper

from export.graph.builder import MICROSOFT, Graph, Shape
from export.graph.region import Region


def splice(
    region: Region,
    model: onnx.ModelProto,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str] = {},
) -> dict[str, str]:
    """Adds a whole graph under the region's name; returns output -> tensor.

    `inputs` names the tensors to use as its inputs, `outputs` names those of its outputs that
    matter to the outer graph. Weights keep their names, so that copies share them.
    """
    found = dict(inputs) | dict(outputs)
    for tensor in model.graph.initializer:
        found[tensor.name] = region.graph.constant(tensor.name, numpy_helper.to_array(tensor))

    def inner(name: str) -> str:
        return found.get(name, f"{region.prefix}{name}") if name else ""

    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        region.graph.nodes(
            node.op_type,
            list(map(inner, node.input)),
            f"{region.prefix}{node.name}",
            list(map(inner, node.output)),
            domain=node.domain or None,
            **attributes,
        )
    return {output.name: inner(output.name) for output in model.graph.output}


def complete(graph: Graph) -> onnx.ModelProto:
    """The model; branches and bodies may use the operators of Microsoft's domain."""
    model = graph.build()
    if MICROSOFT not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return model


def shape(value: Any) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or int(dim.dim_value) for dim in dims]


def width(values: Any, name: str, axis: int = -1) -> int:
    """A fixed size of the tensor `name`, the last unless told."""
    (found,) = (shape(value)[axis] for value in values if value.name == name)
    assert isinstance(found, int), f"{name} has no fixed size there"
    return found
