from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.forms import (
    EAGER,
    Speeds,
    compare,
    in_torch,
    networks,
    report,
    synthetic,
)
from export.checks import timing
from export.checks.timing import example
from export.network.lowerings import Form
from luminanet.reference import forward
from tests.nets import random_net, random_weights, tiny_text_topology
from training.checkpoint import Checkpoint, save


@settings(max_examples=30)
@given(st.integers(0, 100_000), st.booleans())
def test_torch_computes_what_the_graphs_compute(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    inputs = example(net, 3, seed)
    with torch.inference_mode():
        found = in_torch(net)(torch.from_numpy(inputs)).numpy()
    expected = forward(net, inputs)
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_the_networks_of_a_folder_are_found(tmp_path: Path) -> None:
    save(tmp_path / "mine" / "ckpt.pt", Checkpoint("mine", random_net(1, text=False)))
    found = networks(tmp_path)
    assert list(found) == ["mine", "64 clusters, 240 connections"]
    topology = synthetic().topology
    assert (len(topology.clusters), len(topology.connections)) == (64, 240)


def test_every_form_and_torch_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUND_S", 0.0)
    net = random_weights(tiny_text_topology(50))
    found = compare(net, (1, 2), compiled=False)
    assert set(found.us[1]) == set(found.us[2]) == {*Form, EAGER}
    assert found.ratios(2)[found.chosen(2)] == 1
    assert "* tiny: " in report({"tiny": found})


def test_the_choice_is_told_with_how_far_it_is_from_the_best() -> None:
    us = {
        1: {Form.SHARED: 100.0, Form.BUS: 150.0, Form.BLOCK: 120.0, EAGER: 300.0},
        64: {Form.SHARED: 1300.0, Form.BUS: 1000.0, Form.BLOCK: 1100.0, EAGER: 2000.0},
    }
    one, two = Speeds({1: Form.SHARED}, us), Speeds({1: Form.SHARED, 9: Form.BUS}, us)
    assert one.beyond_best() == pytest.approx(1.3)
    assert two.beyond_best() == 1
    assert two.ratios(64)[Form.SHARED] == pytest.approx(1.3)
    marks = report({"one": one, "two": two}).splitlines()[-2:]
    assert marks[0].startswith("* one: shared; 3.0x faster than torch eager at batch 1")
    assert "within 30 % of the best" in marks[0]
    assert marks[1].startswith("* two: shared and bus from batch 9; 3.0x")
    assert "within 0 % of the best" in marks[1]
