import subprocess
import sys
from pathlib import Path

import pytest
import torch

from luminanet.errors import ConfigError
from luminanet.frozen import FrozenNet
from training.checkpoint import load
from training.data.batches import Batch
from training.step.distributed import World, join
from training.train import main

WORDS = ["--preset", "cifar10", "--steps", "10", "--batch", "16", "--width", "8", "--channel", "4"]
WORDS += ["--evolution-events", "3", "--check-every", "4", "--mixup", "0", "--threads", "1"]
RANKS_COMPARED = """
import sys
import torch
import torch.distributed as dist
from training import train

kept = []
plain = train.leave

def comparing(world):
    topologies = [None] * world.size
    dist.all_gather_object(topologies, kept[0].trainer.model.topology.to_json())
    weights = torch.cat([p.detach().flatten() for p in kept[0].trainer.model.parameters()])
    all_weights = [torch.empty_like(weights) for _ in range(world.size)]
    dist.all_gather(all_weights, weights)
    same = topologies[0] == topologies[1] and torch.equal(*all_weights)
    print(f"rank {world.rank} same {same}")
    plain(world)

class Kept(train.Run):
    def __init__(self, *words):
        super().__init__(*words)
        kept.append(self)

train.leave, train.Run = comparing, Kept
sys.exit(train.main(sys.argv[1:]))
"""


def test_two_processes_share_a_batch() -> None:
    batch = Batch(torch.arange(6), torch.arange(6) * 10)
    shares = [World(rank, 2).share(batch) for rank in range(2)]
    assert [share.inputs.tolist() for share in shares] == [[0, 2, 4], [1, 3, 5]]
    assert World().share(batch) is batch


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="divided among 3"):
        join(16, torch.device("cpu"))


def test_two_processes_evolve_the_same_network_and_learn_like_one(
    data: Path, tmp_path: Path
) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS_COMPARED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*torchrun, *WORDS, "--data", str(data), "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "rank 0 same True" in done.stdout
    assert "rank 1 same True" in done.stdout
    assert main([*WORDS, "--data", str(data), "--out", str(tmp_path / "one")]) == 0
    one, two = (load(tmp_path / run / "ckpt.pt") for run in ("one", "two"))
    assert isinstance(one.net, FrozenNet)
    assert isinstance(two.net, FrozenNet)
    assert len(one.net.topology.clusters) == len(two.net.topology.clusters)
    assert two.figures["held_out_loss"] == pytest.approx(one.figures["held_out_loss"], rel=0.02)
