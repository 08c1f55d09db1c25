"""`python -m benchmarks.packing`: how much faster a training step is with clusters in groups.

Compares the network of training/model/network.py (clusters of equal shape on one level as one
batched product) with the plain loop over clusters below, which has the same weights and gives the
same numbers. Both run one step (forward, backward, fused AdamW) on the same images, in turn,
several times; the table holds the median, in fp32 and in bf16 autocast. Writes
benchmarks/packing.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import provenance, table
from luminanet.fields import ImageInput, Patch
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead
from luminanet.reference import field_indices
from luminanet.topology import Cluster, Connection, Kind, Topology
from training.model.initial import initial_net
from training.model.network import ACTIVATIONS, Network

BATCH = 512
REPEATS = 7
PAGE = Path(__file__).parent / "packing.md"


class LoopNetwork(nn.Module):
    """One image network, a cluster and a connection at a time, as one would write it first."""

    def __init__(self, net: FrozenNet) -> None:
        super().__init__()
        assert isinstance(net.head, ImageHead)
        assert isinstance(net.topology.input, ImageInput)
        self.topology = net.topology
        self.mean = torch.from_numpy(net.head.mean_C)[:, None, None]
        self.std = torch.from_numpy(net.head.std_C)[:, None, None]
        self.bias = nn.Parameter(torch.from_numpy(net.head.bias_O))
        self.clusters = nn.ModuleDict(
            {str(key): nn.ParameterDict(_tensors(w)) for key, w in net.clusters.items()}
        )
        self.gates = nn.ParameterDict(
            {f"{c.source}-{c.target}": torch.tensor(g) for c, g in net.gates.items()}
        )
        self.fields = {
            c.id: torch.from_numpy(field_indices(c, net.topology.input))
            for c in net.topology.clusters
        }

    def forward(self, images: Tensor) -> Tensor:
        flat = ((images - self.mean) / self.std).flatten(1)
        forward = self.heard_from(Kind.FEEDFORWARD)
        first: dict[int, Tensor] = {}
        for cluster in self.topology.clusters:
            heard = {s: first[s] for s in forward[cluster.id]}
            first[cluster.id] = self.message(cluster, self.visit(cluster, flat, heard))
        second: dict[int, Tensor] = {}
        out = self.bias
        for cluster in self.topology.clusters:
            heard = first | {s: second[s] for s in forward[cluster.id]}
            hidden = self.visit(cluster, flat, heard)
            second[cluster.id] = self.message(cluster, hidden)
            out = out + hidden @ self.weights(cluster)["readout_HO"]
        return out

    def heard_from(self, kind: Kind) -> dict[int, list[int]]:
        links = [c for c in self.topology.connections if self.topology.kind(c) is kind]
        return {i: [c.source for c in links if c.target == i] for i in self.topology.by_id}

    def weights(self, cluster: Cluster) -> nn.ParameterDict:
        found = self.clusters[str(cluster.id)]
        assert isinstance(found, nn.ParameterDict)
        return found

    def message(self, cluster: Cluster, hidden: Tensor) -> Tensor:
        message: Tensor = hidden @ self.weights(cluster)["send_HD"]
        return message

    def visit(self, cluster: Cluster, flat: Tensor, heard: dict[int, Tensor]) -> Tensor:
        w = self.weights(cluster)
        drive: Tensor = flat[:, self.fields[cluster.id]] @ w["see_IH"] + w["bias_H"]
        sources = [s for s in self.topology.sources[cluster.id] if s in heard]
        if sources:
            signals = [self.gates[f"{s}-{cluster.id}"] * heard[s] for s in sources]
            signal = torch.stack(signals).sum(0) / len(self.topology.sources[cluster.id])
            drive = drive + signal @ w["hear_DH"]
        return ACTIVATIONS[self.topology.activation](drive)


def _tensors(weights: ClusterWeights) -> dict[str, Tensor]:
    names = ("see_IH", "bias_H", "hear_DH", "send_HD", "readout_HO")
    return {name: torch.from_numpy(np.array(getattr(weights, name))) for name in names}


def network(clusters: int, seed: int = 0) -> FrozenNet:
    """CIFAR-10 clusters of 64 neurons on 8x8 patches, two levels, 8 random sources each."""
    rng = np.random.default_rng(seed)
    spots = [(top, left) for top in range(0, 32, 8) for left in range(0, 32, 8)]
    placed = tuple(
        Cluster(i, i * 2 // clusters, 64, (Patch((0, 1, 2), *spots[i % 16], 8, 8),))
        for i in range(clusters)
    )
    links = tuple(
        Connection(source=int(s), target=t)
        for t in range(clusters)
        for s in rng.choice(clusters, 8, replace=False)
    )
    shape = ImageInput(3, 32, 32)
    return initial_net(Topology(shape, 64, 10, next(iter(ACTIVATIONS)), placed, links), seed)


def step(model: nn.Module, bf16: bool) -> Callable[[], float]:
    """A training step that returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(BATCH) % 10

    def run() -> float:
        begun_s = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - begun_s

    return run


def compare(clusters: int, repeats: int = REPEATS) -> dict[str, float]:
    """Median seconds a step, by name; the variants take turns."""
    net = network(clusters)
    variants = {
        f"{name}, {'bf16' if bf16 else 'fp32'}": step(kind(net), bf16)
        for bf16 in (False, True)
        for name, kind in (("loop", LoopNetwork), ("packed", Network))
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(repeats):
        for name, run in variants.items():
            seconds[name].append(run())
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    parser.add_argument("--clusters", default="24,64", help="numbers of clusters (default 24,64)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for clusters in map(int, arguments.clusters.split(",")):
        found = compare(clusters)
        loop = found["loop, fp32"]
        rows += [
            [str(clusters), name, f"{1000 * s:.0f}", f"{loop / s:.1f}x"]
            for name, s in found.items()
        ]
    report = table(["clusters", "step", "ms", "faster than the fp32 loop"], rows)
    command = f"python -m benchmarks.packing --threads {arguments.threads}"
    source = provenance(command, ("torch", "numpy"), "0")
    print(report)
    title = f"# A training step, clusters one by one or in groups (batch {BATCH})\n\n"
    PAGE.write_text(f"{title}{report}\n{source}", "utf-8")


if __name__ == "__main__":
    main()
