"""Artifact directories -> verified models, ready to bind. Refuses with ArtifactError."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import (
    MANIFEST,
    TOKENIZER,
    TOPOLOGY,
    Family,
    Manifest,
    Served,
    Task,
)
from luminanet.artifact.probes import Probes
from luminanet.artifact.probes import read as read_probes
from luminanet.errors import ArtifactError, TopologyError
from luminanet.tokenizer import Tokenizer
from luminanet.topology import Topology
from luminanet.untrusted import line
from serving.errors import RequestError
from serving.models.selection import How, drawing, load_graphs, logits, reading
from serving.runtimes.backend import Backend
from serving.settings import Settings

log = logging.getLogger("luminanet.models")

MAX_TOKENIZER_BYTES = 1 << 26
MAX_TOPOLOGY_BYTES = 1 << 20
MACS_OF_A_THREAD = 5_000_000
"""Multiply-accumulates of a picture that make a thread worth its while. With two threads the
shipped classifier (1.4 million) took 1.2 to 2.2 times as long as with one, at any batch size."""


def fingerprint(manifest: Manifest, graphs: Iterable[str]) -> str:
    """SHA-256 over the names and hashes of the graphs that are served."""
    files = manifest.files or {}
    lines = [f"{name} {files[name].sha256}\n" for name in sorted(graphs)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ImageModel:
    manifest: Manifest
    backend: Backend
    graphs: Mapping[str, Backend]
    """Those of `backend` by file, to be tried one by one (engines/selftest.py)."""
    probes: Probes
    precision: Served = "fp32"
    topology: Topology | None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.manifest, self.graphs)


@dataclass(frozen=True, slots=True)
class TextModel:
    manifest: Manifest
    backend: Backend
    """The graphs that draw tokens."""
    tokenizer: Tokenizer
    longest_token: int
    """Characters that one token can stand for at most."""
    how: How
    graphs: Mapping[str, Backend]
    """Those of `backend` and `prompts` by file, to be tried one by one (engines/selftest.py)."""
    probes: Probes
    prompts: Backend | None = None
    """GPT-2: the graph that reads prompts, which may be one of those that draw."""
    topology: Topology | None = None

    @property
    def precision(self) -> Served:
        return self.how.precision

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.manifest, self.graphs)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt. Raises RequestError when it does not fit into the context."""
        name, context = self.manifest.family, self.manifest.context
        if len(prompt) > context * self.longest_token:  # too long by far: do not tokenize it
            raise RequestError(
                f"the prompt has {len(prompt)} characters; {name} reads {context} tokens: "
                "shorten it",
                "prompt",
            )
        return self.check(self.tokenizer.encode(prompt), "prompt")

    def check(self, ids: list[int], param: str) -> list[int]:
        """The token ids of a prompt. Raises RequestError when there are more than the context, or
        one is none of the tokenizer's."""
        name, context = self.manifest.family, self.manifest.context
        if len(ids) > context:
            raise RequestError(
                f"the prompt has {len(ids)} tokens; {name} reads {context}: shorten it", param
            )
        return self.known(ids, param)

    def known(self, ids: list[int], param: str) -> list[int]:
        """Token ids. Raises RequestError when one is none of the tokenizer's."""
        wrong = next((token for token in ids if not 0 <= token < self.tokenizer.vocab_size), None)
        if wrong is not None:
            raise RequestError(
                f"there is no token {wrong}: those of {self.manifest.family} are 0 to "
                f"{self.tokenizer.vocab_size - 1}",
                param,
            )
        return ids


@dataclass(frozen=True, slots=True)
class Models:
    """What one server offers: the default text model of each family and the default image model,
    which requests call by their family, and others, which they call by the artifact's name."""

    text: Mapping[Family, TextModel]
    image: ImageModel | None
    others: Sequence[ImageModel | TextModel] = ()

    @property
    def all(self) -> list[ImageModel | TextModel]:
        return [*self._defaults, *self.others]

    @property
    def texts(self) -> list[TextModel]:
        return [model for model in self.all if isinstance(model, TextModel)]

    def called(self, model: ImageModel | TextModel) -> str:
        """What answers and metrics call one of them; requests may use the artifact's name too."""
        is_default = any(model is default for default in self._defaults)
        return model.manifest.family.value if is_default else model.manifest.name

    @property
    def _defaults(self) -> list[ImageModel | TextModel]:
        return [*([self.image] if self.image else []), *self.text.values()]


def load(
    root: Path,
    threads: int,
    precision: Served = "fp32",
    steps: int = 4,
    reproducible: bool = False,
) -> Models:
    """All artifacts under `root`; Settings of the same names say what the rest is. The first of a
    family (and task) is its default.

    Raises ArtifactError when one is bad, two have the same name, or there is none.
    """
    how = How(threads, precision, steps, reproducible)
    text: dict[Family, TextModel] = {}
    image: ImageModel | None = None
    others: list[ImageModel | TextModel] = []
    names: dict[str, Path] = {}
    try:
        for artifact in map(Artifact.open, find(root)):
            family, is_text = artifact.manifest.family, artifact.manifest.task is Task.GENERATION
            is_default = family not in text if is_text else image is None
            _check_name(artifact, names, is_default)
            model = _load_text(artifact, how) if is_text else _load_image(artifact, how)
            if not is_default:
                others.append(model)
            elif isinstance(model, TextModel):
                text[family] = model
            else:
                image = model
    except OSError as error:
        raise ArtifactError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not text and image is None:
        raise ArtifactError(
            f"there is no artifact under {root}: make one with `python export/freeze.py ckpt.pt`, "
            "or name its folder with --artifacts"
        )
    return Models(text, image, others)


def load_for(settings: Settings) -> Models:
    """What a server with these settings offers. Raises ArtifactError."""
    return load(
        settings.artifacts,
        settings.compute_threads,
        settings.precision,
        settings.steps,
        settings.reproducible,
    )


def _check_name(artifact: Artifact, names: dict[str, Path], is_default: bool) -> None:
    """Adds the name of an artifact. Raises ArtifactError when it stands for another one too."""
    name, family = artifact.manifest.name, artifact.manifest.family
    if name in names:
        raise ArtifactError(
            f"{names[name]} and {artifact.directory} are both called {name}: remove one of them, "
            "or freeze it under another name"
        )
    if name in tuple(Family) and not (is_default and name == family):
        raise ArtifactError(
            f"{artifact.directory} is called {name}, which stands for the default of this family: "
            "freeze it under another name"
        )
    names[name] = artifact.directory


def find(root: Path) -> Iterator[Path]:
    """Artifact directories: root itself, or root/*/ and root/*/artifact/, in order of names.

    Raises ArtifactError when one below root is a link, which may lead anywhere.
    """
    if (root / MANIFEST).exists():
        yield root
        return
    if not root.is_dir():
        raise ArtifactError(f"{root} is not a folder: name one with artifacts with --artifacts")
    for child in sorted(root.iterdir()):
        if not child.name.startswith("."):
            for directory in (child, child / "artifact"):
                if (directory / MANIFEST).exists():
                    if child.is_symlink() or directory.is_symlink():
                        raise ArtifactError(f"{directory} is a link: copy the folder itself there")
                    yield directory


def _load_image(artifact: Artifact, how: How) -> ImageModel:
    threads = min(how.threads, max(1, artifact.manifest.macs // MACS_OF_A_THREAD))
    how = replace(how, threads=threads)
    labels = artifact.manifest.labels
    if not labels or len(set(labels)) != len(labels):
        raise ArtifactError(f"{artifact.directory}: its labels are missing or repeat")
    graphs, backend = load_graphs(artifact, logits(artifact, how), how)
    asked, drawn = read_probes(artifact), _topology(artifact)
    return ImageModel(artifact.manifest, backend, graphs, asked, how.precision, drawn)


def _load_text(artifact: Artifact, how: How) -> TextModel:
    manifest, where = artifact.manifest, artifact.directory / TOKENIZER
    tokenizer = _tokenizer(artifact)
    found = (tokenizer.vocab_size, tokenizer.end_id)
    if found != (manifest.vocab_size, manifest.end_id) or manifest.context < 1:
        raise ArtifactError(
            f"{where} (vocabulary {found[0]}, end of text {found[1]}) does not fit its manifest "
            f"({manifest.vocab_size}, {manifest.end_id}, context {manifest.context}): "
            "freeze the model again"
        )
    longest = max(len(tokenizer.decode([token])) for token in range(tokenizer.vocab_size))
    graphs, backend = load_graphs(artifact, drawing(artifact, how), how)
    prompts = None
    if manifest.family is Family.GPT2:
        (reader,) = entries = reading(artifact, how)
        if reader not in graphs:
            graphs = {**load_graphs(artifact, entries, how).graphs, **graphs}
        prompts = graphs[reader]
    asked, drawn = read_probes(artifact), _topology(artifact)
    return TextModel(manifest, backend, tokenizer, longest, how, graphs, asked, prompts, drawn)


def _tokenizer(artifact: Artifact) -> Tokenizer:
    where = artifact.directory / TOKENIZER
    entry = (artifact.manifest.files or {}).get(TOKENIZER)
    if entry and entry.bytes > MAX_TOKENIZER_BYTES:
        raise ArtifactError(f"{where} is larger than {MAX_TOKENIZER_BYTES} bytes")
    try:
        return Tokenizer.from_json(artifact.read(TOKENIZER).decode())
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{where} is damaged: {error}") from error
    except ArtifactError as error:
        raise error if str(where) in str(error) else ArtifactError(f"{where}: {error}") from error


def _topology(artifact: Artifact) -> Topology | None:
    """What people are shown. Serving does not need it: None where there is none, as of a GPT-2, or
    it cannot be read, which the log then says."""
    entry = (artifact.manifest.files or {}).get(TOPOLOGY)
    if entry is None:
        return None
    try:
        if entry.bytes > MAX_TOPOLOGY_BYTES:
            raise TopologyError(f"it is larger than {MAX_TOPOLOGY_BYTES} bytes")
        return Topology.from_json(artifact.read(TOPOLOGY).decode())
    except (ArtifactError, TopologyError, UnicodeDecodeError, RecursionError) as error:
        where = artifact.directory / TOPOLOGY
        log.warning("the page cannot show %s: %s", where, line(str(error)))
        return None
