import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from luminanet.artifact.directory import Artifact, write
from luminanet.artifact.manifest import (
    MODEL,
    TOPOLOGY,
    Family,
    GraphEntry,
    Manifest,
    Precision,
    Role,
    Runtime,
    Task,
)
from luminanet.errors import ArtifactError

GRAPH = GraphEntry(Precision.FP32, "bus", "it is the best", nodes=3, verified_within=1e-4)
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
    graphs={MODEL: GRAPH},
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


def test_a_graph_says_which_runtime_it_is_for(directory: Path) -> None:
    path = directory / "manifest.json"
    raw = json.loads(path.read_text())
    assert raw["graphs"][MODEL].pop("runtime") == "any"
    assert Manifest.from_json(json.dumps(raw)).graphs[MODEL].runtime is Runtime.ANY
    for runtime in ("tensorrt", "gpu", None):
        raw["graphs"][MODEL]["runtime"] = runtime
        with pytest.raises(ArtifactError, match="is damaged"):
            Manifest.from_json(json.dumps(raw))


def test_nothing_temporary_is_left_behind(directory: Path) -> None:
    write(directory, MANIFEST, FILES)
    assert [p.name for p in directory.parent.iterdir()] == ["artifact"]
    assert sorted(p.name for p in directory.iterdir()) == sorted([*FILES, "manifest.json"])


def test_a_failed_replacement_leaves_the_old_artifact(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == directory and self.name == "new":
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
    change(directory, files={name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(ArtifactError, match="no artifact has"):
        Artifact.open(directory)


@pytest.mark.parametrize(
    "values",
    [
        {"format": 1},
        {"format": 2},
        {"format": 4},
        {"format": "3"},
        {"format": True},
        {"task": "cooking"},
        {"labels": 3},
        {"labels": [3]},
        {"name": None},
        {"context": -1},
        {"parameters": 1e3},
        {"vocab_size": 1 << 60},
        {"files": []},
        {"files": {"model.onnx": {}}},
        {"files": {"model.onnx": {"sha256": "0" * 63, "bytes": 4}}},
        {"files": {"model.onnx": {"sha256": "0" * 64, "bytes": -4}}},
        {"graphs": {}},
        {"graphs": []},
        {"figures": {"loss": "low"}},
        {"name": "two\nlines"},
        {"labels": ["\u202egnp"]},
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


def graph(**values: object) -> dict[str, object]:
    return {"graphs": {MODEL: json.loads(json.dumps(asdict(GRAPH))) | values}}


def test_a_graph_that_is_told_well_is_taken(directory: Path) -> None:
    change(directory, **graph(form="shared", from_batch=7))
    entry = Artifact.open(directory).manifest.graphs[MODEL]
    assert entry == replace(GRAPH, form="shared", from_batch=7)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"precision": "fp64"}, "fp64"),
        ({"precision": "int8"}, "no model.onnx in fp32"),
        ({"role": "decode"}, "decode"),
        ({"nodes": -1}, "nodes is -1"),
        ({"from_batch": 0}, "from_batch is 0"),
        ({"verified_within": "near"}, "verified_within is 'near'"),
        ({"examples": {"top1": None}}, "top1 is None"),
        ({"form": "a\tb"}, "not plain text"),
        ({"more": 1}, "more"),
    ],
)
def test_a_graph_that_is_told_badly_is_refused(
    directory: Path, values: dict[str, object], match: str
) -> None:
    change(directory, **graph(**values))
    with pytest.raises(ArtifactError, match=match):
        Artifact.open(directory)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"parameters": 1,', '"parameters": 1, "parameters": 2,'),
        ('"loss": 0.5', '"loss": NaN'),
        ('"loss": 0.5', '"loss": -Infinity'),
        ('"loss": 0.5', '"loss": 1e999'),
        ('"loss": 0.5', f'"loss": 1{"0" * 400}'),
        ('"loss": 0.5', '"loss": true'),
        ('"parameters": 1,', f'"parameters": 1{"0" * 5000},'),
    ],
)
def test_json_that_others_would_read_otherwise_is_refused(
    directory: Path, old: str, new: str
) -> None:
    path = directory / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ArtifactError, match="is damaged") as caught:
        Artifact.open(directory)
    assert len(str(caught.value)) < 500 + len(str(directory))


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="disagree about"):
        write(tmp_path / "a", MANIFEST, {**FILES, "model.int8.onnx": b"onnx"})
    with pytest.raises(ArtifactError, match="NaN"):
        write(tmp_path / "a", replace(MANIFEST, figures={"loss": float("nan")}), FILES)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- graphs that decode


def decoding(directory: Path, family: str, task: str, **values: object) -> None:
    """Gives the artifact a graph that decodes, and a manifest that tells of it."""
    raw = json.loads((directory / "manifest.json").read_text())
    name = "decode.4.onnx" if family == "gpt2" else "decode.onnx"
    (directory / name).write_bytes(b"onnx")
    raw["files"][name] = raw["files"][MODEL]
    raw["graphs"][name] = raw["graphs"][MODEL] | {"role": "decode"} | values
    (directory / "manifest.json").write_text(json.dumps(raw | {"family": family, "task": task}))


@pytest.mark.parametrize(("family", "steps"), [("luminanet", 0), ("gpt2", 4), ("gpt2", 64)])
def test_a_graph_that_decodes_is_taken(directory: Path, family: str, steps: int) -> None:
    decoding(directory, family, "text-generation", steps=steps)
    graphs = Artifact.open(directory).manifest.graphs
    (entry,) = (entry for entry in graphs.values() if entry.role is Role.DECODE)
    assert entry.steps == steps


@pytest.mark.parametrize(
    ("family", "task", "values", "match"),
    [
        ("luminanet", "image-classification", {"steps": 0}, "decodes, and the task is image"),
        ("luminanet", "text-generation", {"steps": 4}, "steps 4, which no luminanet has"),
        ("gpt2", "text-generation", {"steps": 0}, "steps 0, which no gpt2 has"),
        ("gpt2", "text-generation", {"steps": 65}, "steps is 65"),
        ("gpt2", "text-generation", {"role": "logits", "steps": 4}, "not that of its name"),
    ],
)
def test_a_graph_that_decodes_and_does_not_fit_is_refused(
    directory: Path, family: str, task: str, values: dict[str, object], match: str
) -> None:
    decoding(directory, family, task, **values)
    with pytest.raises(ArtifactError, match=match):
        Artifact.open(directory)


def test_a_graph_that_gives_logits_has_no_steps(directory: Path) -> None:
    change(directory, **graph(steps=4))
    with pytest.raises(ArtifactError, match="gives logits, and steps is 4"):
        Artifact.open(directory)


def test_graphs_of_before_there_were_steps_are_read(directory: Path) -> None:
    raw = json.loads((directory / "manifest.json").read_text())
    del raw["graphs"][MODEL]["steps"]
    (directory / "manifest.json").write_text(json.dumps(raw))
    assert Artifact.open(directory).manifest.graphs[MODEL] == GRAPH
