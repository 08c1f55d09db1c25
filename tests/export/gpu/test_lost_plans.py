"""Plans that are lost when an artifact is frozen again are named, with what brings them back."""

from pathlib import Path

import pytest

from export.freeze import main
from export.gpu.lost_plans import lost, plans_in
from luminanet.artifact.manifest import FileEntry
from luminanet.artifact.tensorrt_plan import PlanInfo, Profile, beside
from tests.nets import LABELS, random_weights, tiny_image_topology
from training.checkpoint import Checkpoint, save


def write_plan(artifact: Path, name: str, model: str = "model.onnx", command: str = "") -> None:
    """A plan and what is said of it; what it holds does not matter here."""
    (artifact / name).write_bytes(b"plan")
    entry, profiles = FileEntry("0" * 64, 4), (Profile(1, 8, 32),)
    info = PlanInfo(
        "0" * 64, "tensorrt", "11.4", ("9.0",), profiles, {}, entry, command=command, model=model
    )
    beside(artifact / name).write_text(info.to_json())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    net = random_weights(tiny_image_topology())
    save(tmp_path / "ckpt.pt", Checkpoint("tiny", net, labels=LABELS))
    return tmp_path / "ckpt.pt"


def test_freezing_again_names_the_plans_that_go(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = checkpoint.parent / "artifact"
    assert main([str(checkpoint)]) == 0
    assert "build again" not in capsys.readouterr().out
    write_plan(out, "model.plan", command="--profile 1:8:32")
    assert main([str(checkpoint), "--dry-run"]) == 0
    assert "build again" not in capsys.readouterr().out
    assert main([str(checkpoint)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "model.plan" in line)
    assert f"`python -m export.build_engine {out} --profile 1:8:32`" in line
    assert not list(out.glob("*.plan*"))
    assert main([str(checkpoint)]) == 0
    assert "build again" not in capsys.readouterr().out


def test_a_plan_whose_graph_is_gone_too_cannot_be_built_again(tmp_path: Path) -> None:
    write_plan(tmp_path, "model.plan")
    write_plan(tmp_path, "model.fp16.plan", model="model.fp16.onnx")
    (tmp_path / "model.bf16.plan").write_bytes(b"a plan of which nothing is said")
    before = plans_in(tmp_path)
    assert lost(before, tmp_path) == ""
    for path in list(tmp_path.iterdir()):
        path.unlink()
    for name in ("model.onnx", "model.bf16.onnx"):
        (tmp_path / name).touch()
    line, command = lost(before, tmp_path), f"python -m export.build_engine {tmp_path}"
    assert line.startswith("model.bf16.plan, model.fp16.plan, model.plan went")
    assert f"`{command} --model model.bf16.onnx` and `{command}`" in line
    assert "--model model.fp16.onnx" not in line


def test_where_nothing_was_frozen_there_is_no_plan(tmp_path: Path) -> None:
    assert plans_in(tmp_path / "nowhere") == {}
