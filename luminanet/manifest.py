"""An artifact: one directory that `export` writes and `serving` loads, described by manifest.json.

    manifest.json    this file's Manifest: what it is, its files with hashes, its figures
    model.onnx       the static graph
    topology.json    the architecture (LuminaNet only)
    tokenizer.json   text models only

ONNX interface, by task:
    image-classification
        images float32 [batch, 3, 32, 32] in 0..1 -> logits float32 [batch, classes]
    text-generation, luminanet
        token_ids int64 [batch, context], newest last, -1 before the beginning
        -> logits float32 [batch, vocab]
    text-generation, gpt2 (a KV cache of `context` positions, updated in place; export/baseline.py)
        token_ids int64 [batch, steps], past_lengths int32 [batch] (tokens in the cache before),
        past_keys.N, past_values.N float32 [batch, heads, context, head width]
        -> logits float32 [batch, vocab] after the last step, present_keys.N, present_values.N
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from luminanet.errors import ArtifactError

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOPOLOGY = "topology.json"
TOKENIZER = "tokenizer.json"
FILES = (MODEL, TOPOLOGY, TOKENIZER)
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 31


class Task(StrEnum):
    CLASSIFICATION = "image-classification"
    GENERATION = "text-generation"


class Family(StrEnum):
    LUMINANET = "luminanet"
    GPT2 = "gpt2"


@dataclass(frozen=True, slots=True)
class FileEntry:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself. Figures are measured ones; units are in their names."""

    name: str
    task: Task
    family: Family
    summary: str
    parameters: int
    macs: int
    """Multiply-accumulates of one forward (text: one token), counted from the graph without
    embedding look-ups and without attention over the cache."""
    context: int = 0
    """Tokens that one prediction can see; 0 for images."""
    vocab_size: int = 0
    end_id: int = 0
    heads: int = 0
    layers: int = 0
    head_width: int = 0
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] | None = None
    license: str = "Apache-2.0"
    command: str = ""
    versions: Mapping[str, str] | None = None
    files: Mapping[str, FileEntry] | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str = MANIFEST) -> "Manifest":
        try:
            raw = json.loads(text)
            if not isinstance(raw, dict) or "format" not in raw:
                raise ArtifactError(f"{where} is not a manifest")
            if raw["format"] != FORMAT:
                raise ArtifactError(
                    f"{where} has format {raw['format']!r}; this build reads {FORMAT}: "
                    "freeze the checkpoint again with this version"
                )
            return _manifest(raw)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{where} is damaged: {type(error).__name__}: {error}") from error


def _manifest(raw: dict[str, Any]) -> Manifest:
    raw = dict(raw)
    raw["task"], raw["family"] = Task(raw["task"]), Family(raw["family"])
    raw["labels"] = tuple(raw["labels"])
    raw["files"] = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
    manifest = Manifest(**raw)
    if not isinstance(manifest.name, str) or not all(isinstance(x, str) for x in manifest.labels):
        raise TypeError("name and labels must be text")
    sizes = ("parameters", "macs", "context", "vocab_size", "end_id", "heads", "layers")
    for size in (*sizes, "head_width"):
        value = getattr(manifest, size)
        if type(value) is not int or not 0 <= value < 1 << 40:
            raise ValueError(f"{size} is {value!r}")
    return manifest


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on disk; `read` gives only bytes that match the manifest's hash."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def open(directory: Path) -> "Artifact":
        """Reads the manifest and refuses what cannot be trusted (ArtifactError).

        The files themselves are checked when they are read.
        """
        path = directory / MANIFEST
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(
                f"{directory} is not an artifact (no {MANIFEST}): "
                "make one with `python export/freeze.py ckpt.pt`"
            )
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path} is damaged: {error}") from error
        manifest = Manifest.from_json(text, str(path))
        unknown = sorted(set(manifest.files or {}) - set(FILES))
        if unknown:
            raise ArtifactError(f"{path} lists files that no artifact has: {unknown}")
        return Artifact(directory, manifest)

    def read(self, name: str) -> bytes:
        """The bytes of one file, after its size and hash were checked."""
        entry = (self.manifest.files or {}).get(name)
        path = self.directory / name
        if entry is None:
            raise ArtifactError(f"{self.directory} lists no {name}: freeze the checkpoint again")
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path} is missing or not a plain file: freeze the model again")
        size = path.stat().st_size
        if size != entry.bytes or size > MAX_FILE_BYTES:
            raise ArtifactError(f"{path} has {size} bytes, the manifest says {entry.bytes}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise ArtifactError(
                f"{path} does not match the hash in its manifest: it was changed or damaged; "
                "freeze the checkpoint again or copy the artifact anew"
            )
        return data


def write(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Artifact:
    """Writes a whole artifact under a temporary name and renames it into place.

    An artifact that is there already is replaced; any other non-empty directory is refused.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / MANIFEST).is_file():
        raise ArtifactError(f"{directory} is not empty and not an artifact: choose another --out")
    entries = {
        name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()
    }
    manifest = replace(manifest, files=entries)
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        (fresh / MANIFEST).write_text(manifest.to_json(), "utf-8")
        fresh.chmod(0o755)
        _swap(fresh, directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Artifact(directory, manifest)


def _swap(fresh: Path, directory: Path) -> None:
    """Renames `fresh` to `directory`; what was there comes back if that fails."""
    if not directory.exists():
        fresh.rename(directory)
        return
    old = directory.rename(fresh.with_name(f"{fresh.name}-old"))
    try:
        fresh.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old)
