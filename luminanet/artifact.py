"""An artifact on disk: one directory that `export` writes and `serving` loads (manifest.py)."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from luminanet.errors import ArtifactError
from luminanet.manifest import MANIFEST, MAX_FILE_BYTES, FileEntry, Manifest

MAX_MANIFEST_BYTES = 1 << 20


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
        return Artifact(directory, Manifest.from_json(text, str(path)))

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
    manifest = Manifest.from_json(replace(manifest, files=entries).to_json(), str(directory))
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        (fresh / MANIFEST).write_text(manifest.to_json(), "utf-8")
        fresh.chmod(0o755)
        swap(fresh, directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Artifact(directory, manifest)


def swap(fresh: Path, directory: Path) -> None:
    """Renames `fresh` to `directory`; what was there goes, or comes back if that fails."""
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
