import json
from pathlib import Path

import pytest

from luminanet.errors import ArtifactError
from luminanet.manifest import MODEL, TOPOLOGY, Artifact, Family, Manifest, Task, write

MANIFEST = Manifest(
    name="a",
    task=Task.CLASSIFICATION,
    family=Family.LUMINANET,
    summary="s",
    parameters=1,
    macs=1,
    labels=("x",),
    figures={"loss": 0.5},
    versions={},
)
FILES = {MODEL: b"onnx", TOPOLOGY: b"{}"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write(tmp_path / "artifact", MANIFEST, FILES)
    return tmp_path / "artifact"


def change(directory: Path, **values: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_was_written_is_read(directory: Path) -> None:
    artifact = Artifact.open(directory)
    assert artifact.manifest.labels == ("x",)
    assert artifact.read(MODEL) == b"onnx"
    assert Manifest.from_json(artifact.manifest.to_json()) == artifact.manifest


def test_nothing_temporary_is_left_behind(directory: Path) -> None:
    write(directory, MANIFEST, FILES)
    assert [p.name for p in directory.parent.iterdir()] == ["artifact"]
    assert sorted(p.name for p in directory.iterdir()) == sorted([*FILES, "manifest.json"])


def test_a_failed_replacement_leaves_the_old_artifact(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == directory and not self.name.endswith("-old"):
            raise OSError("disk gone")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk gone"):
        write(directory, MANIFEST, {MODEL: b"new", TOPOLOGY: b"{}"})
    assert Artifact.open(directory).read(MODEL) == b"onnx"
    assert [p.name for p in directory.parent.iterdir()] == ["artifact"]


def test_a_directory_with_other_things_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="another --out"):
        write(tmp_path, MANIFEST, FILES)
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_a_changed_file_is_refused(directory: Path) -> None:
    (directory / MODEL).write_bytes(b"onnX")
    with pytest.raises(ArtifactError, match="does not match the hash"):
        Artifact.open(directory).read(MODEL)


def test_a_file_of_another_size_is_refused(directory: Path) -> None:
    (directory / MODEL).write_bytes(b"onnx!")
    with pytest.raises(ArtifactError, match="has 5 bytes, the manifest says 4"):
        Artifact.open(directory).read(MODEL)


def test_a_missing_file_is_refused(directory: Path) -> None:
    (directory / MODEL).unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Artifact.open(directory).read(MODEL)


def test_a_file_that_is_not_listed_is_refused(directory: Path) -> None:
    with pytest.raises(ArtifactError, match=r"lists no tokenizer\.json"):
        Artifact.open(directory).read("tokenizer.json")


def test_a_link_is_refused(directory: Path, tmp_path: Path) -> None:
    (directory / MODEL).rename(tmp_path / "elsewhere")
    (directory / MODEL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not a plain file"):
        Artifact.open(directory).read(MODEL)


@pytest.mark.parametrize("name", ["../ckpt.pt", "/etc/passwd", "model.onnx.data"])
def test_a_manifest_that_lists_other_files_is_refused(directory: Path, name: str) -> None:
    change(directory, files={name: {"sha256": "0", "bytes": 1}})
    with pytest.raises(ArtifactError, match="no artifact has"):
        Artifact.open(directory)


@pytest.mark.parametrize(
    "values",
    [
        {"format": 2},
        {"task": "cooking"},
        {"labels": 3},
        {"labels": [3]},
        {"name": None},
        {"context": -1},
        {"parameters": 1e3},
        {"vocab_size": 1 << 60},
        {"files": []},
        {"files": {"model.onnx": {}}},
        {"more": 1},
    ],
)
def test_a_damaged_manifest_is_refused(directory: Path, values: dict[str, object]) -> None:
    change(directory, **values)
    with pytest.raises(ArtifactError):
        Artifact.open(directory)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"', "\x00"])
def test_what_is_no_manifest_is_refused(directory: Path, text: str) -> None:
    (directory / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError):
        Artifact.open(directory)


def test_a_directory_without_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"freeze\.py"):
        Artifact.open(tmp_path)
