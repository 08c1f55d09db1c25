"""What silencing parts of a text network changes, and the report of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tinystories.ablations import WHOLE, main, silenced
from luminanet.fields import Interval, Recall, TextInput
from luminanet.frozen import FrozenNet, TextHead
from luminanet.reference import forward
from tests.datasets import write_stories
from tests.nets import random_weights, tiny_text_topology

torch.set_num_threads(1)
WINDOW = np.array([[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 4, 13, 14, 15, 3, 4]])
"""4 was there before."""
FRESH = np.arange(3, 19)[None]


def net_of(*echoes: Interval | Recall, recalls: bool = True, habits: int = 0) -> FrozenNet:
    plain = tiny_text_topology(50)
    assert isinstance(plain.input, TextInput)
    seen = [Recall(1)] if recalls else []
    clusters = tuple(replace(c, fields=(*c.text_fields, *seen)) for c in plain.clusters)
    shape = replace(plain.input, echoes=echoes, habits=habits)
    return random_weights(replace(plain, input=shape, clusters=clusters))


def test_every_part_is_silenced_alone() -> None:
    net = net_of(Interval(0, 4), Recall(1), habits=5)
    found = silenced(net)
    assert list(found) == [WHOLE, "connections", "recalls", "echoes", "habits"]
    logits = {name: forward(other, WINDOW) for name, other in found.items()}
    for name in list(found)[1:]:
        assert not np.allclose(logits[name], logits[WHOLE])
    fresh = {name: forward(other, FRESH) for name, other in found.items()}
    assert np.allclose(fresh["recalls"], fresh[WHOLE])
    assert not np.allclose(fresh["echoes"], fresh[WHOLE])


def test_what_is_not_there_is_not_silenced() -> None:
    assert list(silenced(net_of(recalls=False))) == [WHOLE, "connections"]
    assert list(silenced(net_of(Interval(0, 4), recalls=False))) == [WHOLE, "connections", "echoes"]


def test_without_recalls_or_echoes_is_what_a_network_without_them_says() -> None:
    net, plain = net_of(Recall(1)), net_of(recalls=False)
    quiet = silenced(net)["recalls"]
    clusters = {
        c.id: replace(
            quiet.clusters[c.id],
            see_IH=quiet.clusters[c.id].see_IH[: plain.topology.inputs(c)],
            readout_HO=quiet.clusters[c.id].readout_HO[:, : plain.topology.outputs],
        )
        for c in plain.topology.clusters
    }
    assert isinstance(quiet.head, TextHead)
    head = replace(quiet.head, salience_VF=None)
    without = FrozenNet(plain.topology, clusters, quiet.gates, head)
    assert np.allclose(forward(without, WINDOW), forward(quiet, WINDOW))


def test_the_report_is_written_and_runs_are_not_done_twice(tmp_path: Path) -> None:
    write_stories(tmp_path / "data", train=400)
    words = ["--networks", "tinystories-echo,tinystories-bus", "--seeds", "0,1", "--steps", "2"]
    words += ["--batch", "1", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs")]
    assert main([*words, "--report", str(tmp_path)]) == 0
    first = json.loads((tmp_path / "ablations.json").read_text())["runs"]
    assert [(run["preset"], run["seed"]) for run in first] == [
        (preset, seed) for seed in (0, 1) for preset in ("tinystories-echo", "tinystories-bus")
    ]
    assert "recalls" in first[0]["perplexity"]
    assert set(first[1]["perplexity"]) == {WHOLE, "connections"}
    page = (tmp_path / "ablations.md").read_text()
    assert "without echoes" in page
    assert "How alike two seeds are" in page
    assert main([*words, "--report", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "ablations.json").read_text())["runs"] == first


@pytest.mark.parametrize("name", ["cifar10", "gpt2", "none"])
def test_other_networks_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stories(tmp_path)
    words = ["--data", str(tmp_path), "--out", str(tmp_path), "--report", str(tmp_path)]
    assert main(["--networks", name, *words]) == 2
    assert "no preset of a LuminaNet for text" in capsys.readouterr().err
