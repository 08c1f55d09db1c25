"""The shipped checkpoints: they freeze to the very bytes that are shipped, and they are small."""

from pathlib import Path

import numpy as np
import pytest

from export.freeze import freeze
from luminanet.artifact.directory import Artifact
from luminanet.frozen import FrozenNet
from training.checkpoint import load

PRETRAINED = Path(__file__).parent.parent / "pretrained"
NAMES = ("gpt2-tinystories", "luminanet-cifar10", "luminanet-tinystories")


def test_all_three_networks_are_shipped_in_100_mb() -> None:
    assert tuple(sorted(path.name for path in PRETRAINED.iterdir())) == NAMES
    assert sum(f.stat().st_size for f in PRETRAINED.rglob("*") if f.is_file()) <= 100e6


@pytest.mark.parametrize("name", NAMES)
def test_freezing_again_gives_the_shipped_bytes(name: str, tmp_path: Path) -> None:
    freeze(PRETRAINED / name / "ckpt.pt", tmp_path / "artifact")
    shipped = sorted((PRETRAINED / name / "artifact").iterdir())
    assert [f.name for f in shipped] == sorted(f.name for f in (tmp_path / "artifact").iterdir())
    for file in shipped:
        assert file.read_bytes() == (tmp_path / "artifact" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", NAMES)
def test_the_model_card_tells_the_commands(name: str) -> None:
    card = (PRETRAINED / name / "README.md").read_text("utf-8")
    manifest = Artifact.open(PRETRAINED / name / "artifact").manifest
    assert name in card
    for command in manifest.command.split(" && "):
        assert command in card


def test_both_text_models_use_the_same_tokens() -> None:
    ours, theirs = (
        load(PRETRAINED / f"{n}-tinystories" / "ckpt.pt") for n in ("luminanet", "gpt2")
    )
    assert ours.tokenizer == theirs.tokenizer
    steps = [checkpoint.figures["examples"] for checkpoint in (ours, theirs)]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("name", ["luminanet-cifar10", "luminanet-tinystories"])
def test_the_shipped_networks_have_evolved(name: str) -> None:
    net = load(PRETRAINED / name / "ckpt.pt").net
    assert isinstance(net, FrozenNet)
    assert net.topology.connections
    assert any(np.float32(gate) != 0 for gate in net.gates.values())
