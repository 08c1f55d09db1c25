import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.graph.builder import Graph
from export.show import main, view
from luminanet.artifact.directory import Artifact, write
from luminanet.artifact.manifest import MODEL, FileEntry
from luminanet.artifact.tensorrt_plan import PlanInfo, Profile, beside
from luminanet.errors import ArtifactError
from tests.nets import LABELS, write_tiny_artifacts

NAMES = ("luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories")


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    write_tiny_artifacts(tmp_path)
    return tmp_path


def shown(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(directory)]) == 0
    return capsys.readouterr().out


def change(directory: Path, **values: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_describes_a_network_is_printed(
    name: str, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = artifacts / name / "artifact"
    manifest, text = Artifact.open(directory).manifest, shown(directory, capsys)
    for part in (manifest.name, manifest.summary, f"{manifest.macs:,}", manifest.license):
        assert part in text
    for file, entry in (manifest.files or {}).items():
        line = next(line for line in text.splitlines() if file in line)
        assert f"{entry.bytes:,} bytes" in line
        assert entry.sha256[:16] in line
    for version in (manifest.versions or {}).items():
        assert " ".join(version) in text


def test_the_interface_and_the_operators_are_those_of_the_graph(
    artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(artifacts / NAMES[0] / "artifact", capsys)
    assert "in   images float32[batch, 3, 32, 32]" in text
    assert "out  logits float32[batch, 10]" in text
    assert ", ".join(LABELS) in text
    graph = view(artifacts / NAMES[0] / "artifact").graphs[MODEL]
    assert graph.nodes == sum(graph.operators.values())
    assert f"{graph.nodes} nodes" in text
    gpt2 = view(artifacts / NAMES[2] / "artifact").graphs[MODEL]
    assert gpt2.operators["com.microsoft.GroupQueryAttention"] == 1
    assert "past_lengths int32[batch]" in gpt2.inputs


def test_nodes_inside_a_loop_are_counted(artifacts: Path) -> None:
    graph = Graph("loops")
    x = graph.input("x", np.float32, [1])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("before", "after")]
    flags = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("on", "still")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    nodes = [
        helper.make_node("Neg", ["before"], ["after"]),
        helper.make_node("Identity", ["on"], ["still"]),
    ]
    body = helper.make_graph(nodes, "body", [turn, flags[0], values[0]], [flags[1], values[1]])
    count = graph.constant("count", np.array(3))
    graph.nodes("Loop", [count, "", x], "loop", ["y"], body=body)
    graph.output("y", np.float32, [1])
    directory = artifacts / NAMES[0] / "artifact"
    data = graph.build().SerializeToString()
    write(directory, Artifact.open(directory).manifest, {MODEL: data})
    assert view(directory).graphs[MODEL].operators == {"Identity": 1, "Loop": 1, "Neg": 1}


def test_a_plan_is_shown_with_what_it_was_built_for(
    artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = artifacts / NAMES[0] / "artifact"
    graph = hashlib.sha256((directory / MODEL).read_bytes()).hexdigest()
    plan = FileEntry(hashlib.sha256(b"plan").hexdigest(), 4)
    info = PlanInfo(graph, "tensorrt", "11.4.0", ("9.0",), (Profile(),), {}, plan)
    (directory / "model.plan").write_bytes(b"plan")
    beside(directory / "model.plan").write_text(info.to_json())
    text = shown(directory, capsys)
    assert "tensorrt 11.4.0 for 9.0" in text
    assert "batches 1:64:1024" in text
    (directory / "model.plan").write_bytes(b"pl4n")
    with pytest.raises(ArtifactError, match="does not match the hash"):
        view(directory)


def test_json_holds_everything(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = artifacts / NAMES[1] / "artifact"
    assert main([str(directory), "--json"]) == 0
    raw = json.loads(capsys.readouterr().out)
    assert raw["manifest"] == json.loads((directory / "manifest.json").read_text())
    assert raw["graphs"][MODEL]["inputs"] == ["token_ids int64[batch, 16]"]
    assert raw["plans"] == {}


@pytest.mark.parametrize("words", [[], ["--json"]])
@pytest.mark.parametrize("file", ["model.onnx", "topology.json", "tokenizer.json"])
def test_any_changed_file_is_one_line_and_status_2(
    file: str, words: list[str], artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = artifacts / NAMES[1] / "artifact" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main([str(path.parent), *words]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert file in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "values",
    [
        {"format": 99},
        {"figures": 3},
        {"figures": [1]},
        {"versions": "new"},
        {"command": 5},
        {"license": None},
        {"summary": [1]},
        {"macs": "many"},
        {"files": {"model.onnx": {"sha256": 1, "bytes": "2"}}},
        {"files": {"../secret": {"sha256": "", "bytes": 0}}},
    ],
)
def test_a_damaged_manifest_is_one_line_and_status_2(
    values: dict[str, Any], artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(artifacts / NAMES[0] / "artifact", **values)
    assert main([str(artifacts / NAMES[0] / "artifact")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_is_no_artifact_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "is not an artifact" in capsys.readouterr().err


def test_a_file_that_is_no_graph_is_refused(artifacts: Path) -> None:
    directory = artifacts / NAMES[0] / "artifact"
    manifest = Artifact.open(directory).manifest
    write(directory, manifest, {MODEL: b"\xff\xff\xff"})
    with pytest.raises(ArtifactError, match="is not an ONNX graph"):
        view(directory)


def test_a_graph_cannot_command_the_terminal(
    artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = artifacts / NAMES[0] / "artifact"
    artifact = Artifact.open(directory)
    model = onnx.load_model_from_string(artifact.read(MODEL))
    model.graph.input[0].name = "a\x1b[2Jb\nname  other"
    files = {name: artifact.read(name) for name in artifact.manifest.files or {}}
    write(directory, artifact.manifest, files | {MODEL: model.SerializeToString()})
    text = shown(directory, capsys)
    assert "\x1b" not in text
    assert "a\\x1b[2Jb\\x0aname" in text


def test_a_manifest_cannot_command_the_terminal(
    artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = artifacts / NAMES[0] / "artifact"
    change(directory, name="a\x1b[2Jb\nname  other")
    assert main([str(directory)]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count("\n") == 1
