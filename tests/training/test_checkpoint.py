from pathlib import Path

import numpy as np
import pytest
import torch

from luminanet.errors import CheckpointError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.reference import forward
from tests.nets import random_gpt2, random_net
from training.checkpoint import Checkpoint, load, save


@pytest.mark.parametrize("seed", range(5))
def test_a_network_survives_its_checkpoint(tmp_path: Path, seed: int) -> None:
    net = random_net(seed, text=True)
    save(tmp_path / "ckpt.pt", Checkpoint("n", net, "{}", (), {"loss": 1.5}, "python"))
    again = load(tmp_path / "ckpt.pt")
    assert isinstance(again.net, FrozenNet)
    tokens = np.random.default_rng(0).integers(0, 40, (3, 12))
    assert np.allclose(forward(again.net, tokens), forward(net, tokens), atol=1e-6)
    assert (again.name, again.tokenizer, again.figures) == ("n", "{}", {"loss": 1.5})


def test_a_baseline_survives_its_checkpoint(tmp_path: Path) -> None:
    net = random_gpt2(0)
    save(tmp_path / "ckpt.pt", Checkpoint("g", net))
    again = load(tmp_path / "ckpt.pt").net
    assert isinstance(again, Gpt2Net)
    assert again.config == net.config
    assert all(np.array_equal(again.tensors[n], net.tensors[n]) for n in net.tensors)


def test_nothing_in_a_checkpoint_needs_pickle(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", Checkpoint("n", random_net(0, text=False), labels=("a",)))
    assert torch.load(tmp_path / "ckpt.pt", weights_only=True)["format"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["ckpt.pt"]


def test_a_missing_or_damaged_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    with pytest.raises(CheckpointError, match=r"training\.train"):
        load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)
    save(path, Checkpoint("n", random_net(0, text=False)))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


@pytest.mark.parametrize("body", [{}, {"format": 9, "family": "luminanet"}, [1], {"format": 1}])
def test_a_file_of_another_format_is_a_clear_error(tmp_path: Path, body: object) -> None:
    torch.save(body, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError):
        load(tmp_path / "ckpt.pt")


def test_weights_that_do_not_fit_the_topology_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    save(path, Checkpoint("n", random_net(0, text=False)))
    raw = torch.load(path, weights_only=True)
    raw["net"]["head"]["bias_O"] = torch.zeros(3)
    torch.save(raw, path)
    with pytest.raises(CheckpointError, match="bias_O"):
        load(path)
