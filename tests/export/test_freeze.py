import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export import build_engine
from export import freeze as module
from export.build_engine import RTX
from export.freeze import freeze, main
from export.network.unroll import unroll
from export.show import main as show
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import Family, Role, Runtime, Task
from luminanet.artifact.tensorrt_plan import installed_version, open_plan
from luminanet.errors import CheckpointError, MissingExtraError, VerificationError
from luminanet.finite import check_finite, weights
from luminanet.frozen import ImageHead
from tests.nets import (
    LABELS,
    random_gpt2,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
    tiny_tokenizer,
)
from training.checkpoint import Checkpoint, save

ROOT = Path(__file__).parents[2]
NAMES = ("luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each kind, name -> path."""
    root, tokenizer = tmp_path_factory.mktemp("runs"), tiny_tokenizer()
    gpt2 = random_gpt2(0, replace(random_gpt2(0).config, vocab_size=tokenizer.vocab_size))
    made = (
        Checkpoint(
            NAMES[0],
            random_weights(tiny_image_topology()),
            labels=LABELS,
            figures={"held_out_accuracy": 0.75},
            command="python -m training.train --preset cifar10",
        ),
        Checkpoint(
            NAMES[1], random_weights(tiny_text_topology(tokenizer.vocab_size)), tokenizer.to_json()
        ),
        Checkpoint(NAMES[2], gpt2, tokenizer.to_json()),
    )
    for checkpoint in made:
        save(root / checkpoint.name / "ckpt.pt", checkpoint)
    return {name: root / name / "ckpt.pt" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_freezes_to_the_same_bytes_every_time(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    frozen = []
    for out in (tmp_path / "first", tmp_path / "second"):
        freeze(checkpoints[name], out)
        frozen.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert frozen[0] == frozen[1]
    assert "manifest.json" in frozen[0]
    assert not any(str(tmp_path).encode() in data for data in frozen[0].values())
    assert not any(str(checkpoints[name].parent).encode() in data for data in frozen[0].values())


def test_the_manifest_tells_what_was_frozen(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    freeze(checkpoints[NAMES[0]], tmp_path / "image")
    image = Artifact.open(tmp_path / "image").manifest
    assert (image.task, image.family) == (Task.CLASSIFICATION, Family.LUMINANET)
    assert image.labels == LABELS
    assert image.macs > 0
    assert image.figures == {"held_out_accuracy": 0.75}
    assert image.command == (
        "python -m training.train --preset cifar10 && python export/freeze.py ckpt.pt"
    )


def test_the_manifest_of_a_gpt2_gives_the_shape_of_its_cache(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    freeze(checkpoints[NAMES[2]], tmp_path / "gpt2")
    gpt2 = Artifact.open(tmp_path / "gpt2").manifest
    assert (gpt2.layers, gpt2.heads, gpt2.context, gpt2.head_width) == (2, 4, 16, 8)


def test_the_artifact_lies_beside_the_checkpoint_and_is_reported(
    checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints[NAMES[1]]
    assert main([str(path)]) == 0
    report = capsys.readouterr().out
    assert Artifact.open(path.parent / "artifact").read("tokenizer.json")
    for word in ("load", "verify", "s  write", "MACs", "model.onnx", str(path.parent / "artifact")):
        assert word in report


@pytest.mark.skipif(not installed_version(RTX), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("name", NAMES[1:])
def test_every_graph_that_tensorrt_reads_becomes_a_plan(
    name: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(build_engine, "MODULES", (RTX,))
    out = tmp_path / "artifact"
    words = ["--out", str(out), "--tensorrt", "--precision", "int8,fp16"]
    assert main([str(checkpoints[name]), *words]) == 0, capsys.readouterr().err
    manifest, is_gpt2 = Artifact.open(out).manifest, name == NAMES[2]
    plain = "model.tensorrt" if is_gpt2 else "model"
    assert {p.name for p in out.glob("*.plan")} == {f"{plain}.plan", "model.fp16.plan"}
    for plan in out.glob("*.plan"):
        info = open_plan(plan)
        assert manifest.graphs[info.model].runtime is not Runtime.CPU
        assert info.sizes == ({"steps": 1} if is_gpt2 else {})
    assert ("--tensorrt" in manifest.command) == is_gpt2


@pytest.mark.parametrize("name", NAMES)
def test_asking_for_tensorrt_adds_a_graph_to_a_gpt2_alone(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    frozen = []
    for out in (tmp_path / "first", tmp_path / "second"):
        freeze(checkpoints[name], out, tensorrt=True)
        frozen.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert frozen[0] == frozen[1]
    assert ("model.tensorrt.onnx" in frozen[0]) == (name == NAMES[2])


def test_the_folder_of_a_run_stands_for_its_checkpoint(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(checkpoints[NAMES[2]], run / "ckpt.pt")
    assert main([str(run)]) == 0
    assert Artifact.open(run / "artifact").manifest.family is Family.GPT2


@pytest.mark.parametrize(
    ("name", "options", "files"),
    [
        (NAMES[0], [], ["model.onnx", "model.batch.onnx"]),
        (NAMES[1], [], ["model.onnx", "decode.onnx"]),
        (NAMES[1], ["--decode", "8,1"], ["model.onnx", "decode.onnx"]),
        (NAMES[2], [], ["model.onnx", "decode.1.onnx"]),
        (NAMES[2], ["--decode", "2,1"], ["model.onnx", "decode.1.onnx", "decode.2.onnx"]),
        (NAMES[2], ["--decode", "none"], ["model.onnx"]),
    ],
)
def test_what_decodes_is_written_reported_and_shown(
    name: str,
    options: list[str],
    files: list[str],
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main([str(checkpoints[name]), "--out", str(out), *options]) == 0
    report, manifest = capsys.readouterr().out, Artifact.open(out).manifest
    assert list(manifest.graphs) == files
    asked = f" --decode {','.join(sorted(options[1].split(',')))}" if options else ""
    assert manifest.command.endswith(f"python export/freeze.py ckpt.pt{asked}")
    assert show([str(out)]) == 0
    shown = capsys.readouterr().out
    for file, entry in manifest.graphs.items():
        assert f"verify {file}" in report
        if entry.role is Role.DECODE:
            steps = str(entry.steps) if name == NAMES[2] else "any number of"
            assert f"decode ({steps} tokens a call) in fp32" in shown


def test_a_dry_run_writes_nothing(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoints[NAMES[1]]), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert not list(tmp_path.iterdir())
    assert "not written" in capsys.readouterr().out


def test_a_graph_that_is_apart_is_not_written(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = unroll(random_weights(tiny_image_topology(), seed=1))
    monkeypatch.setattr("export.network.choose.unroll", lambda *_: other)
    with pytest.raises(VerificationError):
        freeze(checkpoints[NAMES[0]], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_artifact_survives_a_later_freeze_that_fails(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    freeze(checkpoints[NAMES[0]], out)
    net = random_weights(tiny_image_topology())
    hidden = replace(net.clusters[0], bias_H=np.full(8, np.nan, np.float32))
    broken = replace(net, clusters={**net.clusters, 0: hidden})
    save(tmp_path / "ckpt.pt", Checkpoint("broken", broken, labels=LABELS))
    assert main([str(tmp_path / "ckpt.pt"), "--out", str(out)]) == 2
    assert Artifact.open(out).manifest.name == NAMES[0]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is not there"), (b"PK not a checkpoint", "is damaged")]
)
def test_a_bad_checkpoint_is_one_line_on_stderr(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ckpt.pt"
    if content:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_of_something_else_is_not_overwritten(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main([str(checkpoints[NAMES[0]]), "--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert main([str(checkpoints[NAMES[0]]), "--out", str(tmp_path / "mine.txt")]) == 2
    assert (tmp_path / "mine.txt").read_text() == "keep"


def unasked(*_: object) -> None:
    raise AssertionError("work was begun")


@pytest.mark.parametrize(
    ("option", "place", "message"),
    [
        ("--out", "mine.txt", "is not a folder"),
        ("--out", "mine.txt/below", "is not a folder"),
        ("--out", "loop", "leads back to itself"),
        ("--out", "full", "is not empty and not an artifact: choose another --out"),
        ("--out", "app", "is not empty and not an artifact: choose another --out"),
        ("--triton", "mine.txt", "is not a folder"),
        ("--triton", "mine.txt/below", "is not a folder"),
        ("--triton", "loop", "leads back to itself"),
    ],
)
def test_what_cannot_be_written_is_told_before_any_work(
    option: str,
    place: str,
    message: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("keep")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "a page", "format": 2}')
    monkeypatch.setattr(module, "_load", unasked)
    words = [str(checkpoints[NAMES[0]]), option, str(tmp_path / place)]
    out = [] if option == "--out" else ["--out", str(tmp_path / "out")]
    assert main([*words, *out]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert (tmp_path / "full" / "thesis.txt").read_text() == "keep"
    assert [path.name for path in (tmp_path / "app").iterdir()] == ["manifest.json"]
    assert not (tmp_path / "out").exists()


def test_a_repository_that_would_lose_something_is_told_before_any_work(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / NAMES[0]).mkdir()
    (tmp_path / NAMES[0] / "thesis.txt").write_text("keep")
    monkeypatch.setattr(module, "variants", unasked)
    words = [str(checkpoints[NAMES[0]]), "--out", str(tmp_path / "out"), "--triton", str(tmp_path)]
    assert main(words) == 2
    assert "is no model of a Triton repository" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[0]]


@pytest.mark.parametrize("option", ["checkpoint", "--examples"])
@pytest.mark.parametrize("link", [False, True])
def test_what_is_read_is_not_replaced_by_what_is_written(
    link: bool,
    option: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A checkpoint was put beside its artifact, into the same folder."""
    out = tmp_path / "out"
    freeze(checkpoints[NAMES[0]], out)
    shutil.copy(checkpoints[NAMES[0]], out / "ckpt.pt")
    (tmp_path / "link").symlink_to("out")
    words = [str(out / "ckpt.pt")]
    if option != "checkpoint":
        words = [str(checkpoints[NAMES[0]]), option, str(out / "ckpt.pt")]
    assert main([*words, "--out", str(tmp_path / "link" if link else out)]) == 2
    assert "would be replaced with it: choose another --out" in capsys.readouterr().err
    assert (out / "ckpt.pt").read_bytes() == checkpoints[NAMES[0]].read_bytes()


def test_the_target_of_a_link_is_replaced_and_the_link_stays(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "releases" / "v1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/v1")
    for name in NAMES[:2]:
        assert main([str(checkpoints[name]), "--out", str(tmp_path / "current")]) == 0
        assert (tmp_path / "current").readlink() == Path("releases/v1")
        assert Artifact.open(tmp_path / "releases" / "v1").manifest.name == name
        assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "releases"]
        assert [path.name for path in (tmp_path / "releases").iterdir()] == ["v1"]


def test_the_folder_one_stands_in_is_filled(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES[:2]:
        assert main([str(checkpoints[name]), "--out", "."]) == 0
        assert Artifact.open(Path.cwd()).manifest.name == name


POISONED = {
    NAMES[0]: "bias_H of cluster 0",
    NAMES[1]: "hear_DH of cluster 2",
    NAMES[2]: "wte.weight",
}


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_no_numbers_are_named(
    name: str,
    value: float,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = torch.load(checkpoints[name], weights_only=True)
    tensor = {
        NAMES[0]: lambda: raw["net"]["clusters"][0]["bias_H"],
        NAMES[1]: lambda: raw["net"]["clusters"][2]["hear_DH"],
        NAMES[2]: lambda: raw["tensors"]["wte.weight"],
    }[name]()
    tensor.view(-1)[0] = value
    torch.save(raw, tmp_path / "ckpt.pt")
    assert main([str(tmp_path / "ckpt.pt")]) == 2
    what = "NaN" if value != value else "infinities"
    told = capsys.readouterr().err
    path = tmp_path / "ckpt.pt"
    assert told.startswith(f"error: {path}: {POISONED[name]} holds {what}: training diverged")
    assert told.count("\n") == 1
    assert "freeze an earlier checkpoint" in told
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def test_a_gate_and_a_head_that_are_no_numbers_are_named() -> None:
    net = random_weights(tiny_image_topology())
    connection = net.topology.connections[0]
    words = f"the gate of {connection.source} to {connection.target} holds NaN"
    with pytest.raises(CheckpointError, match=words):
        check_finite(
            weights(replace(net, gates={**net.gates, connection: float("nan")})), "ckpt.pt"
        )
    assert isinstance(net.head, ImageHead)
    head = replace(net.head, bias_O=np.full(10, np.inf, np.float32))
    with pytest.raises(CheckpointError, match="bias_O of the head holds infinities"):
        check_finite(weights(replace(net, head=head)), "ckpt.pt")
    check_finite(weights(net), "ckpt.pt")


def test_a_missing_torch_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training.checkpoint", None)
    with pytest.raises(MissingExtraError, match=r"luminanet\[export\]"):
        freeze(tmp_path / "ckpt.pt", None)
    monkeypatch.undo()
    with pytest.raises(CheckpointError):
        freeze(tmp_path / "ckpt.pt", None)


@pytest.mark.parametrize("form", [["export/freeze.py"], ["-m", "export.freeze"]])
def test_the_command_works_as_script_and_as_module(
    form: list[str], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    command = [sys.executable, *form, str(checkpoints[NAMES[0]]), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Artifact.open(tmp_path / "out").manifest.name == NAMES[0]
