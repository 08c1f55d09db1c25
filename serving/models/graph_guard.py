"""Which ONNX bytes may reach the runtime: self-contained, of our versions and operators, and with
weights that are as large as they say. The same holds for every graph inside a graph that decodes,
and its loops are counted."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from luminanet.artifact.manifest import Role
from luminanet.errors import ArtifactError
from luminanet.untrusted import line, shown

IR_VERSION = 10
MICROSOFT = "com.microsoft"
OPSETS = {"": 20, MICROSOFT: 1}
MAX_NODES = 100_000
MAX_DEPTH = 8
"""Graphs inside graphs; those of this project have 7."""
LOOP, STEPS = "Loop", "steps"
GRAPHS: Mapping[str, frozenset[str]] = {
    LOOP: frozenset(["body"]),
    "If": frozenset(["then_branch", "else_branch"]),
}
"""Operators with graphs as attributes, and the names of these."""
OPERATORS = {
    "": {
        *("Add", "And", "AveragePool", "Cast", "Concat", "DequantizeLinear"),
        *("DynamicQuantizeLinear", "Equal"),
        *("Expand", "Flatten", "Gather", "GatherElements", "Gelu", "Gemm", "LayerNormalization"),
        *(
            "MatMul",
            "Mod",
            "Mul",
            "Pad",
            "QuantizeLinear",
            "Range",
            "ReduceMax",
            "ReduceSum",
            "Relu",
        ),
        *(
            "Reshape",
            "Shape",
            "Sigmoid",
            "Slice",
            "Split",
            "Squeeze",
            "Tanh",
            "Transpose",
            "Unsqueeze",
        ),
        "Where",
    },
    MICROSOFT: {
        *("GatherBlockQuantized", "GroupQueryAttention", "MatMulIntegerToFloat", "MatMulNBits"),
    },
}
"""What export/ writes into a graph that gives logits: no loops, no branches, no files."""
SAMPLER = {
    *("ArgMax", "ArgMin", "BitShift", "BitwiseXor", "Div", "GatherND", "Greater"),
    *("GreaterOrEqual", "Identity", "IsNaN", "Less", "LessOrEqual", "Log", "LogSoftmax", "Max"),
    *("Min", "NonZero", "Or", "Reciprocal", "ReduceMin", "ScatterElements"),
    *("Softmax", "Sub", "TopK", *GRAPHS),
}
"""What a graph that decodes has besides."""
INT64 = 7
"""onnx.TensorProto.INT64, without importing onnx."""
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 13: 8, 16: 2}
"""Bytes of a number, by onnx.TensorProto.DataType."""


def check_graph(data: bytes, where: str, role: Role = Role.LOGITS, most_turns: int = 0) -> None:
    """Raises ArtifactError unless `data` is a graph that this build may run.

    It is parsed from bytes without its external data. A graph that refers to other files is
    refused wherever the reference hides: initializers, attributes, nested subgraphs, functions.
    In a graph that decodes, a loop turns as often as the input `steps` says, or a constant number
    of times, `most_turns` at most; loops in loops may not hold a third.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own DecodeError
        raise ArtifactError(f"{where} is not an ONNX model: {line(error)}") from error
    if model.ir_version != IR_VERSION:
        raise ArtifactError(
            f"{where} has ONNX IR version {model.ir_version}; this build reads {IR_VERSION}: "
            "freeze the model again with this version"
        )
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    if not opsets.items() <= OPSETS.items() or "" not in opsets:
        raise ArtifactError(
            f"{where} uses operator sets {line(opsets)}; this build reads {OPSETS}: "
            "freeze the model again with this version"
        )
    for message in _messages(model):
        _check_self_contained(message, where)
    if model.functions or model.training_info:
        raise ArtifactError(
            f"{where} has functions or training graphs: freeze the model again with this version"
        )
    graphs = list(_graphs(model.graph))
    count = sum(len(graph.node) for graph, _ in graphs)
    if count > MAX_NODES:
        raise ArtifactError(f"{where} has {count} nodes, more than {MAX_NODES}")
    for graph, depth in graphs:
        if depth > MAX_DEPTH:
            raise ArtifactError(f"{where} has more than {MAX_DEPTH} graphs in each other")
        if graph.sparse_initializer:
            raise ArtifactError(f"{where} has sparse weights: freeze the model again")
        for node in graph.node:
            _check_node(node, role, where)
        for tensor in graph.initializer:
            _check_size(tensor, where)
    _check_loops(model.graph, _turns(graphs), most_turns, where)


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it, at any depth."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for child in value if field.is_repeated else [value]:
                yield from _messages(child)


def _check_self_contained(message: Any, where: str) -> None:
    kind = message.DESCRIPTOR.name
    if kind == "TensorProto" and (message.external_data or message.data_location):
        raise ArtifactError(
            f"{where} keeps tensor {shown(message.name)} in another file: freeze the model again "
            "with all weights inside"
        )
    if kind == "NodeProto" and message.op_type == "EPContext":
        raise ArtifactError(f"{where} holds a compiled binary (EPContext): freeze the model again")


def _graphs(graph: Any, depth: int = 0) -> Iterator[tuple[Any, int]]:
    """A graph and all graphs in its nodes, each with its depth; too deep ones are not entered."""
    yield graph, depth
    if depth <= MAX_DEPTH:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from _graphs(attribute.g, depth + 1)


def _check_node(node: Any, role: Role, where: str) -> None:
    """Only known operators, with numbers and texts as attributes, and no tensors. Graphs are the
    attributes of loops and branches alone, in a graph that decodes."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    known = OPERATORS.get(domain, set())
    if role is Role.DECODE and not domain:
        known = known | SAMPLER
    if node.op_type not in known:
        raise ArtifactError(
            f"{where} has a node {shown(node.op_type)} of domain {shown(domain)}, which no graph "
            "of this project has: freeze the model again with this version"
        )
    graphs = GRAPHS.get(node.op_type, frozenset())
    for attribute in node.attribute:
        fields = (field for field, _ in attribute.ListFields())
        holds = {field.name for field in fields if field.type == field.TYPE_MESSAGE}
        if attribute.name in graphs and holds == {"g"} and not attribute.ref_attr_name:
            continue
        if holds or attribute.ref_attr_name:
            raise ArtifactError(
                f"{where} has a node {node.op_type} with a graph or tensor as attribute, which no "
                "graph of this project has: freeze the model again with this version"
            )


def _turns(graphs: list[tuple[Any, int]]) -> Mapping[str, int]:
    """The whole numbers that loops may be counted by: constants of names that nothing else has."""
    found: dict[str, int] = {}
    taken = {""}  # the name of an input that is left out
    for graph, _ in graphs:
        for tensor in graph.initializer:
            if tensor.name in found:
                taken.add(tensor.name)
            if tensor.data_type == INT64 and not tensor.dims:
                found[tensor.name] = int.from_bytes(tensor.raw_data, "little", signed=True)
            else:
                taken.add(tensor.name)
        taken.update(value.name for value in graph.input)
        taken.update(name for node in graph.node for name in node.output)
    return {name: turns for name, turns in found.items() if name not in taken}


def _check_loops(
    graph: Any, turns: Mapping[str, int], most_turns: int, where: str, around: tuple[bool, ...] = ()
) -> None:
    """`around`: of each loop that the graph lies in, whether it turns `steps` times."""
    for node in graph.node:
        inside = around
        if node.op_type == LOOP:
            count = node.input[0] if node.input else ""
            is_steps = count == STEPS and not around and _is_input(graph, STEPS)
            is_counted = around in ((), (True,)) and 0 <= turns.get(count, -1) <= most_turns
            if not (is_steps or is_counted):
                raise ArtifactError(
                    f"{where} has a loop that may turn more than {most_turns} times, or in other "
                    "loops: freeze the model again with this version"
                )
            inside = (*around, is_steps)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _check_loops(attribute.g, turns, most_turns, where, inside)


def _is_input(graph: Any, name: str) -> bool:
    """Whether this is an input of a whole graph, and of nothing else there."""
    made = {output for node in graph.node for output in node.output}
    made |= {tensor.name for tensor in graph.initializer}
    return name in {value.name for value in graph.input} and name not in made


def _check_size(tensor: Any, where: str) -> None:
    """The weights that a tensor declares are those that it holds, so the file bounds them all."""
    item_bytes = ITEM_BYTES.get(tensor.data_type)
    dims = list(tensor.dims)
    if (
        item_bytes is None
        or len(dims) > 8
        or min(dims, default=0) < 0
        or prod(dims) * item_bytes != len(tensor.raw_data)
    ):
        raise ArtifactError(
            f"{where} declares tensor {shown(tensor.name)} as {line(dims)} of type "
            f"{tensor.data_type} and holds {len(tensor.raw_data)} bytes of it: it is damaged, "
            "freeze the model again"
        )
