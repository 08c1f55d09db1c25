"""A whole run that changes its receptive fields: it can be interrupted, and replayed."""

import signal
from pathlib import Path

import pytest
import torch

from luminanet.cost.macs import macs
from luminanet.frozen import FrozenNet
from training.analysis.history import read_events, replay_to
from training.checkpoint import load
from training.config import TextLuminaNet
from training.data import batches
from training.data.batches import Batch
from training.presets import TEXT_PRESETS
from training.topologies import SEEDINGS
from training.train import main

OPTIONS = ["--steps", "12", "--batch", "4", "--context", "16", "--vocab-size", "300"]
SIZES = ["--width", "16", "--channel", "8", "--evolution-events", "4", "--threads", "1"]
PRESET = "tinystories-evolved-128"


def train(data: Path, out: Path) -> int:
    words = ["--preset", PRESET, "--data", str(data), "--out", str(out), "--check-every", "5"]
    return main([*words, *OPTIONS, *SIZES])


def test_a_text_run_changes_its_fields_and_resumes_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(data, tmp_path / "whole") == 0
    plain = batches.TextSource.batch

    def interrupting(self: batches.TextSource, step: int) -> Batch:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(batches.TextSource, "batch", interrupting)
        assert train(data, tmp_path / "parts") == 128 + signal.SIGTERM
    assert train(data, tmp_path / "parts") == 0

    whole, parts = (torch.load(tmp_path / run / "state.pt") for run in ("whole", "parts"))
    for slot in ("weights", "average", "first_moment", "second_moment"):
        for name, value in whole["trainer"][slot].items():
            assert torch.equal(value, parts["trainer"][slot][name]), (slot, name)

    net = load(tmp_path / "whole" / "ckpt.pt").net
    assert isinstance(net, FrozenNet)
    events = read_events(tmp_path / "whole" / "evolution.jsonl")
    assert {"see", "bus"} <= {event.operator for event in events if event.kept}
    history = replay_to(net.topology, events)
    assert history.start == SEEDINGS["few"](16, 8, 300)
    before = {interval for c in history.start.clusters for interval in c.intervals}
    assert {interval for c in net.topology.clusters for interval in c.intervals} != before


@pytest.mark.parametrize("channel", [128, 256, 384])
def test_the_presets_have_the_channels_of_the_paper_and_room_to_evolve(channel: int) -> None:
    config = TEXT_PRESETS[f"tinystories-evolved-{channel}"]
    model = config.model
    assert isinstance(model, TextLuminaNet)
    assert config.evolution is not None
    seed = SEEDINGS[model.seeding](model.width, model.channel, config.vocab_size)
    assert (seed.channel, config.evolution.max_macs) == (channel, 1_250_000)
    assert macs(seed) < 0.8 * config.evolution.max_macs
