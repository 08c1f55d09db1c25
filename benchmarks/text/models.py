"""Paths -> text models: checkpoints, frozen artifacts, GPT-2 directories of Hugging Face."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.assembly.build import unrolled
from export.assembly.variants import Request, variants
from export.gpt2.huggingface import CONFIG, files_of, load_gpt2
from export.precisions.convert import convert
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import (
    MANIFEST,
    MODEL,
    TOKENIZER,
    Family,
    Manifest,
    Precision,
    Role,
    Runtime,
    Task,
)
from luminanet.errors import CheckpointError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from training.checkpoint import load

CHECKPOINT = "ckpt.pt"
PRECISIONS = tuple(precision for precision in Precision if precision.served)
"""Those that run on a CPU; some of them share the batch sizes."""


@dataclass(frozen=True, slots=True)
class StepGraph:
    """A graph that gives logits on a CPU, and the smallest batch that it is the fastest for."""

    model: onnx.ModelProto
    precision: Precision
    from_batch: int


@dataclass(frozen=True, slots=True)
class TextModel:
    """Something that predicts tokens: a network with its weights, or a frozen artifact."""

    name: str
    tokenizer: str
    """As JSON."""
    digest: str
    """SHA-256 of what was read; the same digest is the same model."""
    source: FrozenNet | Gpt2Net | Artifact
    command: str = ""
    """What made it, where that is known."""

    @property
    def family(self) -> Family:
        if isinstance(self.source, Artifact):
            return self.source.manifest.family
        return Family.GPT2 if isinstance(self.source, Gpt2Net) else Family.LUMINANET

    @property
    def parameters(self) -> int:
        if isinstance(self.source, Artifact):
            return self.source.manifest.parameters
        if isinstance(self.source, Gpt2Net):
            return self.source.parameters
        return self.source.topology.parameters

    @property
    def context(self) -> int:
        """Tokens that one prediction can see."""
        if isinstance(self.source, Artifact):
            return self.source.manifest.context
        if isinstance(self.source, Gpt2Net):
            return self.source.config.context
        assert isinstance(self.source.topology.input, TextInput)
        return self.source.topology.input.window

    def plain(self) -> onnx.ModelProto:
        """The graph in float32 whose products are counted."""
        match self.source:
            case Artifact():
                return onnx.load_model_from_string(self.source.read(MODEL))
            case Gpt2Net() | FrozenNet():
                return next(self.steps()).model

    def steps(self) -> Iterator[StepGraph]:
        """What a server runs, by precision and batch: of a network, what the exporter chooses."""
        if isinstance(self.source, Artifact):
            for file, entry in self.source.manifest.graphs.items():
                on_cpu = entry.runtime is not Runtime.TENSORRT and entry.precision in PRECISIONS
                if entry.role is Role.LOGITS and on_cpu:
                    model = onnx.load_model_from_string(self.source.read(file))
                    yield StepGraph(model, entry.precision, entry.from_batch)
            return
        for variant in variants(self.source, Request(precisions=PRECISIONS, decode=())):
            plain = variant.unrolled or unrolled(self.source, variant.form)
            model = convert(plain, variant.precision)
            yield StepGraph(model, variant.precision, variant.from_batch)


def open_model(path: Path) -> TextModel:
    """A model for text by its file or folder: ckpt.pt or a folder with one, an artifact, or a GPT-2
    of Hugging Face. Raises CheckpointError or ArtifactError for anything else."""
    if (path / CHECKPOINT).is_file():
        path = path / CHECKPOINT
    if (path / MANIFEST).is_file():
        return _artifact(path)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise CheckpointError(
                f"{path} holds no model: give a folder with {CHECKPOINT}, {MANIFEST} or {CONFIG}"
            )
        found = load_gpt2(path)
        return TextModel(found.name, found.tokenizer, _digest(*files_of(path)), found.net)
    checkpoint = load(path)
    if checkpoint.tokenizer is None:
        raise CheckpointError(f"{path} holds a network for images: give one for text")
    name = path.resolve().parent.name if path.name == CHECKPOINT else path.stem
    words, net, made = checkpoint.tokenizer, checkpoint.net, checkpoint.command
    return TextModel(name, words, _digest(path), net, made)


def _artifact(path: Path) -> TextModel:
    artifact = Artifact.open(path)
    manifest: Manifest = artifact.manifest
    if manifest.task is not Task.GENERATION:
        raise CheckpointError(f"{path} holds a network for images: give one for text")
    tokenizer = artifact.read(TOKENIZER).decode()
    name, digest = f"{manifest.name}, frozen", _digest(path / MANIFEST)
    return TextModel(name, tokenizer, digest, artifact, manifest.command)


def _digest(*paths: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
