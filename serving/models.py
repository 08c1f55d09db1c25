"""Artifact directories -> verified models, ready to bind. Refuses with ArtifactError."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from luminanet.errors import ArtifactError
from luminanet.manifest import MANIFEST, MODEL, TOKENIZER, Artifact, Family, Manifest, Task
from luminanet.tokenizer import Tokenizer
from serving.errors import RequestError
from serving.graph import check_graph, check_interface
from serving.runtime import Backend, OrtCpu


@dataclass(frozen=True, slots=True)
class ImageModel:
    manifest: Manifest
    backend: Backend


@dataclass(frozen=True, slots=True)
class TextModel:
    manifest: Manifest
    backend: Backend
    tokenizer: Tokenizer
    longest_token: int
    """Characters that one token can stand for at most."""

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt. Raises RequestError when it does not fit into the context."""
        name, context = self.manifest.family, self.manifest.context
        if len(prompt) > context * self.longest_token:  # too long by far: do not tokenize it
            raise RequestError(
                f"the prompt has {len(prompt)} characters; {name} reads {context} tokens: "
                "shorten it",
                "prompt",
            )
        ids = self.tokenizer.encode(prompt)
        if len(ids) > context:
            raise RequestError(
                f"the prompt has {len(ids)} tokens; {name} reads {context}: shorten it", "prompt"
            )
        return ids


@dataclass(frozen=True, slots=True)
class Models:
    """What one server offers: text models by family, and at most one image model."""

    text: Mapping[Family, TextModel]
    image: ImageModel | None

    @property
    def all(self) -> list[ImageModel | TextModel]:
        return [*([self.image] if self.image else []), *self.text.values()]


def load(root: Path, threads: int) -> Models:
    """All artifacts under `root`. Raises ArtifactError when one is bad or there is none."""
    text: dict[Family, TextModel] = {}
    image: ImageModel | None = None
    try:
        for artifact in map(Artifact.open, find(root)):
            family, task = artifact.manifest.family, artifact.manifest.task
            if family in text if task is Task.GENERATION else image is not None:
                raise ArtifactError(
                    f"{artifact.directory} is a second {task} model of the family {family}: "
                    f"keep one of them under {root}"
                )
            if task is Task.GENERATION:
                text[family] = _load_text(artifact, threads)
            else:
                image = _load_image(artifact, threads)
    except OSError as error:
        raise ArtifactError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not text and image is None:
        raise ArtifactError(
            f"there is no artifact under {root}: make one with `python export/freeze.py ckpt.pt`, "
            "or name its folder with --artifacts"
        )
    return Models(text, image)


def find(root: Path) -> Iterator[Path]:
    """Artifact directories: root itself, or root/*/ and root/*/artifact/, in order of names."""
    if (root / MANIFEST).exists():
        yield root
        return
    if not root.is_dir():
        raise ArtifactError(f"{root} is not a folder: name one with artifacts with --artifacts")
    for child in sorted(root.iterdir()):
        if not child.name.startswith("."):
            yield from (d for d in (child, child / "artifact") if (d / MANIFEST).exists())


def _load_image(artifact: Artifact, threads: int) -> ImageModel:
    labels = artifact.manifest.labels
    if not labels or len(set(labels)) != len(labels):
        raise ArtifactError(f"{artifact.directory}: its labels are missing or repeat")
    return ImageModel(artifact.manifest, _backend(artifact, threads))


def _load_text(artifact: Artifact, threads: int) -> TextModel:
    manifest, where = artifact.manifest, artifact.directory / TOKENIZER
    try:
        tokenizer = Tokenizer.from_json(artifact.read(TOKENIZER).decode())
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{where} is damaged: {error}") from error
    found = (tokenizer.vocab_size, tokenizer.end_id)
    if found != (manifest.vocab_size, manifest.end_id) or manifest.context < 1:
        raise ArtifactError(
            f"{where} (vocabulary {found[0]}, end of text {found[1]}) does not fit its manifest "
            f"({manifest.vocab_size}, {manifest.end_id}, context {manifest.context}): "
            "freeze the model again"
        )
    longest = max(len(tokenizer.decode([token])) for token in range(tokenizer.vocab_size))
    return TextModel(manifest, _backend(artifact, threads), tokenizer, longest)


def _backend(artifact: Artifact, threads: int) -> Backend:
    where = str(artifact.directory / MODEL)
    graph = artifact.read(MODEL)
    check_graph(graph, where)
    backend = OrtCpu(graph, threads, where)
    check_interface(artifact.manifest, backend.inputs, backend.outputs, where)
    return backend
