"""Network and graphs -> manifest and files of an artifact. Pure: nothing is written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx

from export.checks import probing
from export.graph.builder import IR_VERSION, OPSET
from export.graph.count import macs
from luminanet import topology
from luminanet.artifact import manifest
from luminanet.artifact.manifest import (
    PROBES,
    TOKENIZER,
    TOPOLOGY,
    Family,
    GraphEntry,
    Manifest,
    Task,
)
from luminanet.cost import macs as cost
from luminanet.errors import ExportError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.tokenizer import Tokenizer

VERSIONS = {
    "manifest": str(manifest.FORMAT),
    "topology": str(topology.FORMAT),
    "onnx opset": str(OPSET),
    "onnx ir": str(IR_VERSION),
}


@dataclass(frozen=True, slots=True)
class Label:
    """What an artifact carries beside its network: text its tokenizer's JSON, images classes."""

    name: str
    tokenizer: str | None = None
    classes: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    license: str = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Frozen:
    """A finished graph: the name of its file, and what the manifest says of it."""

    file: str
    model: onnx.ModelProto
    entry: GraphEntry


@dataclass(frozen=True, slots=True)
class Package:
    """What `luminanet.artifact.directory.write` takes."""

    manifest: Manifest
    files: Mapping[str, bytes]


def pack(net: FrozenNet | Gpt2Net, graphs: Sequence[Frozen], label: Label) -> Package:
    """Same arguments, same bytes: nothing here depends on the time or the machine.

    The first of the graphs is the plain one. Raises ExportError when the tokenizer or the class
    labels do not fit the network.
    """
    described = replace(
        _gpt2(net, label) if isinstance(net, Gpt2Net) else _luminanet(net, label),
        macs=macs(graphs[0].model) if isinstance(net, Gpt2Net) else cost.macs(net.topology),
        figures=label.figures,
        command=label.command,
        license=label.license,
        versions=VERSIONS,
        graphs={graph.file: graph.entry for graph in graphs},
    )
    files = {graph.file: graph.model.SerializeToString(deterministic=True) for graph in graphs}
    if isinstance(net, FrozenNet):
        files[TOPOLOGY] = net.topology.to_json().encode()
    files[PROBES] = probing.take(net).to_json().encode()
    if label.tokenizer is not None:
        files[TOKENIZER] = label.tokenizer.encode()
    return Package(described, files)


def _luminanet(net: FrozenNet, label: Label) -> Manifest:
    shape = net.topology.input
    described = Manifest(
        name=label.name,
        task=Task.CLASSIFICATION,
        family=Family.LUMINANET,
        summary=net.topology.summary(),
        parameters=net.topology.parameters,
        macs=0,
    )
    if isinstance(shape, TextInput):
        return replace(
            described,
            task=Task.GENERATION,
            context=shape.window,
            vocab_size=shape.vocab_size,
            end_id=_end_id(label, shape.vocab_size),
        )
    if len(label.classes) != net.topology.outputs:
        raise ExportError(
            f"{label.name} has {len(label.classes)} class labels for {net.topology.outputs} "
            "outputs: put one label per class into the checkpoint"
        )
    return replace(described, labels=label.classes)


def _gpt2(net: Gpt2Net, label: Label) -> Manifest:
    config = net.config
    return Manifest(
        name=label.name,
        task=Task.GENERATION,
        family=Family.GPT2,
        summary=net.summary(),
        parameters=net.parameters,
        macs=0,
        context=config.context,
        vocab_size=config.vocab_size,
        end_id=_end_id(label, config.vocab_size),
        heads=config.heads,
        layers=config.layers,
        head_width=config.width // config.heads,
    )


def _end_id(label: Label, vocab_size: int) -> int:
    """The end-of-text token, of a tokenizer that fits the network."""
    if label.tokenizer is None:
        raise ExportError(f"{label.name} has no tokenizer: put its JSON into the checkpoint")
    tokenizer = Tokenizer.from_json(label.tokenizer)
    if tokenizer.vocab_size > vocab_size:
        raise ExportError(
            f"the tokenizer of {label.name} has {tokenizer.vocab_size} tokens, the network "
            f"{vocab_size}: freeze the checkpoint with the tokenizer it was trained with"
        )
    return tokenizer.end_id
