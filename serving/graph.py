"""Which ONNX bytes may reach the runtime: self-contained, of our versions and operators, with our
interface, and with weights that are as large as they say."""

from collections.abc import Iterator
from math import prod
from typing import Any

from luminanet.errors import ArtifactError
from luminanet.manifest import Family, Manifest, Task
from luminanet.untrusted import line, shown
from serving.runtime import Tensor

IR_VERSION = 10
MICROSOFT = "com.microsoft"
OPSETS = {"": 20, MICROSOFT: 1}
IMAGE_SHAPE = (3, 32, 32)
MAX_NODES = 100_000
MAX_STATE_BYTES = 1 << 30
"""What one sequence may keep between two tokens."""
OPERATORS = {
    "": {
        *("Add", "Cast", "Concat", "DequantizeLinear", "DynamicQuantizeLinear", "Expand"),
        *("Flatten", "Gather", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Mul", "Pad"),
        *("QuantizeLinear", "Range", "ReduceMax", "Relu", "Reshape", "Shape", "Sigmoid", "Slice"),
        *("Split", "Squeeze", "Tanh", "Transpose", "Unsqueeze"),
    },
    MICROSOFT: {
        *("GatherBlockQuantized", "GroupQueryAttention", "MatMulIntegerToFloat", "MatMulNBits"),
    },
}
"""What export/ writes into a graph that gives logits: no loops, no branches, no files."""
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 16: 2}
"""Bytes of a number, by onnx.TensorProto.DataType."""


def check_graph(data: bytes, where: str) -> None:
    """Raises ArtifactError unless `data` is a graph that this build may run.

    It is parsed from bytes without its external data. A graph that refers to other files is
    refused wherever the reference hides: initializers, attributes, nested subgraphs, functions.
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
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise ArtifactError(
            f"{where} has functions, training graphs or sparse weights: freeze the model again"
        )
    if len(model.graph.node) > MAX_NODES:
        raise ArtifactError(f"{where} has {len(model.graph.node)} nodes, more than {MAX_NODES}")
    for node in model.graph.node:
        _check_node(node, where)
    for tensor in model.graph.initializer:
        _check_size(tensor, where)


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


def _check_node(node: Any, where: str) -> None:
    """Only known operators, with numbers and texts as attributes: no graphs, no tensors."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if node.op_type not in OPERATORS.get(domain, ()):
        raise ArtifactError(
            f"{where} has a node {shown(node.op_type)} of domain {shown(domain)}, which no graph "
            "of this project has: freeze the model again with this version"
        )
    for attribute in node.attribute:
        holds = any(field.type == field.TYPE_MESSAGE for field, _ in attribute.ListFields())
        if holds or attribute.ref_attr_name:
            raise ArtifactError(
                f"{where} has a node {node.op_type} with a graph or tensor as attribute, which no "
                "graph of this project has: freeze the model again with this version"
            )


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


def check_state(manifest: Manifest, where: str) -> None:
    """Raises ArtifactError when one sequence would need more memory than any real one."""
    if state_bytes(manifest) > MAX_STATE_BYTES:
        raise ArtifactError(
            f"{where} asks for {state_bytes(manifest):,} bytes for each sequence, more than "
            f"{MAX_STATE_BYTES:,}: freeze a model with a shorter context"
        )


def state_bytes(manifest: Manifest) -> int:
    """A window or a cache, and logits: what one row of a batch is bound to."""
    cache = 8 * manifest.layers * manifest.heads * manifest.context * manifest.head_width
    images = 4 * prod(IMAGE_SHAPE) if manifest.task is Task.CLASSIFICATION else 0
    return cache + images + 8 * manifest.context + 4 * (manifest.vocab_size + len(manifest.labels))


def check_interface(
    manifest: Manifest, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], where: str
) -> None:
    """Raises ArtifactError unless the graph has the interface told in luminanet/manifest.py."""
    for kind, expected, found in zip(
        ("inputs", "outputs"), interface(manifest), (inputs, outputs), strict=True
    ):
        if {tensor.name: tensor for tensor in found} != {t.name: t for t in expected}:
            raise ArtifactError(
                f"{where} has {kind} {'; '.join(map(str, found))}, but its manifest asks for "
                f"{'; '.join(map(str, expected))}: freeze the model again"
            )


def interface(manifest: Manifest) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and outputs that a model of this manifest has."""
    if manifest.task is Task.CLASSIFICATION:
        images = Tensor("images", "float32", (None, *IMAGE_SHAPE))
        return (images,), (Tensor("logits", "float32", (None, len(manifest.labels))),)
    logits = Tensor("logits", "float32", (None, manifest.vocab_size))
    if manifest.family is Family.LUMINANET:
        return (Tensor("token_ids", "int64", (None, manifest.context)),), (logits,)
    steps = Tensor("token_ids", "int64", (None, None))
    lengths = Tensor("past_lengths", "int32", (None,))
    past, present = _cache(manifest, "past"), _cache(manifest, "present")
    return (steps, lengths, *past), (logits, *present)


def _cache(manifest: Manifest, side: str) -> tuple[Tensor, ...]:
    shape = (None, manifest.heads, manifest.context, manifest.head_width)
    return tuple(
        Tensor(f"{side}_{part}.{layer}", "float32", shape)
        for layer in range(manifest.layers)
        for part in ("keys", "values")
    )
