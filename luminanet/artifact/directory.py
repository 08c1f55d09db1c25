"""An artifact on disk: one directory that `export` writes and `serving` loads (manifest.py)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from luminanet.artifact.folders import check_writable, contents, follow, is_unfinished, put
from luminanet.artifact.manifest import MANIFEST, MAX_FILE_BYTES, FileEntry, Manifest
from luminanet.errors import ArtifactError

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


def check(directory: Path) -> None:
    """Raises ArtifactError when no artifact can be written here: ask before the work is done."""
    check_writable(directory)
    found = follow(directory)
    is_free = not found.exists() or not contents(found) or is_unfinished(found)
    if not is_free and not _is_ours(found / MANIFEST):
        raise ArtifactError(f"{directory} is not empty and not an artifact: choose another --out")


def _is_ours(manifest: Path) -> bool:
    """Also of another format, or damaged; but others, web pages for one, have a manifest.json."""
    if manifest.is_symlink() or not manifest.is_file():
        return False
    return all(key in manifest.read_bytes() for key in (b'"task"', b'"family"'))


def write(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Artifact:
    """Writes a whole artifact, which appears at once where the file system allows (folders.py).

    An artifact that is there already is replaced; any other non-empty directory is refused.
    """
    check(directory)
    entries = {
        name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()
    }
    manifest = Manifest.from_json(replace(manifest, files=entries).to_json(), str(directory))
    put(directory, {**files, MANIFEST: manifest.to_json().encode()}, MANIFEST)
    return Artifact(directory, manifest)
