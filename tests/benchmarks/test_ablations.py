import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.ablations import ABLATIONS, BASE, COMPARED, NETWORKS, ONCE, cut, main, spread
from luminanet.reference import forward
from luminanet.topology import Topology
from tests.datasets import write_images
from tests.nets import random_weights, tiny_image_topology
from training.presets import PRESETS

torch.set_num_threads(1)


def test_cutting_removes_connections_and_nothing_else() -> None:
    net = random_weights(tiny_image_topology())
    without = cut(net)
    assert not without.topology.connections
    assert without.topology.clusters == net.topology.clusters
    images = np.random.default_rng(0).random((2, 3, 32, 32))
    assert not np.allclose(forward(without, images), forward(net, images))


def test_every_ablation_changes_the_model_and_nothing_else() -> None:
    for name, config in ABLATIONS.items():
        assert name not in PRESETS
        assert config.model != BASE.model
        assert replace(config, preset=BASE.preset, model=BASE.model) == BASE


def test_the_report_is_written_and_runs_are_not_done_twice(tmp_path: Path) -> None:
    write_images(tmp_path / "data", train=60, test=20)
    words = ["--networks", "cifar10", "--once", "cifar10-pass1", "--seeds", "0,1"]
    words += ["--steps", "6", "--batch", "16"]
    words += ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs")]
    assert main([*words, "--report", str(tmp_path)]) == 0
    first = json.loads((tmp_path / "ablations.json").read_text())["runs"]
    assert [run["result"]["network"] for run in first] == ["cifar10", "cifar10", "cifar10-pass1"]
    assert [run["result"]["seed"] for run in first] == [0, 1, 0]
    assert first[2]["kinds"][1:] == [0, 0]
    assert (tmp_path / "ablations.png").read_bytes().startswith(b"\x89PNG")
    assert "cifar10-pass1" in (tmp_path / "ablations.md").read_text()
    ended = Topology.from_json(first[0]["topology"])
    assert len(ended.clusters) == first[0]["clusters"]
    assert main([*words, "--report", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "ablations.json").read_text())["runs"] == first
    assert main([*words, "--once", "cifar10-denser"]) == 2


def test_what_is_compared_is_run_by_default() -> None:
    assert {name for pair in COMPARED for name in pair} <= {*NETWORKS, *ONCE}


def test_every_ablation_is_run_by_default() -> None:
    assert {*NETWORKS, *ONCE} == {"cifar10", *ABLATIONS}


@pytest.mark.parametrize(("shares", "text"), [([0.5, 0.6], "55.0 ± 7.1 %"), ([0.5], "50.0 %")])
def test_spread_is_in_points(shares: list[float], text: str) -> None:
    assert spread(shares) == text
