"""Which ONNX bytes may reach the runtime: self-contained, of our versions, with our interface."""

from collections.abc import Iterator
from typing import Any

from luminanet.errors import ArtifactError
from luminanet.manifest import Family, Manifest, Task
from serving.runtime import Tensor

IR_VERSION = 10
OPSETS = {"": 20, "com.microsoft": 1}
IMAGE_SHAPE = (3, 32, 32)


def check_graph(data: bytes, where: str) -> None:
    """Raises ArtifactError unless `data` is a graph that this build may run.

    It is parsed from bytes without its external data. A graph that refers to other files is
    refused wherever the reference hides: initializers, attributes, nested subgraphs, functions.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own DecodeError
        raise ArtifactError(f"{where} is not an ONNX model: {error}") from error
    if model.ir_version != IR_VERSION:
        raise ArtifactError(
            f"{where} has ONNX IR version {model.ir_version}; this build reads {IR_VERSION}: "
            "freeze the model again with this version"
        )
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    if not opsets.items() <= OPSETS.items() or "" not in opsets:
        raise ArtifactError(
            f"{where} uses operator sets {opsets}; this build reads {OPSETS}: "
            "freeze the model again with this version"
        )
    for message in _messages(model):
        _check_self_contained(message, where)


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
            f"{where} keeps tensor {message.name!r} in another file: freeze the model again "
            "with all weights inside"
        )
    if kind == "NodeProto" and message.op_type == "EPContext":
        raise ArtifactError(f"{where} holds a compiled binary (EPContext): freeze the model again")


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
