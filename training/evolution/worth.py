"""What a choice of receptive field is worth: how much the held-out loss rises without it.

All clusters that see the same fall silent together: they stand in for each other, and asked one by
one none of them would be missed. Source: leave-one-out ablation of groups; what is silenced is a
choice, not a neuron.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from statistics import mean

import torch

from luminanet.cost.macs import cluster_macs
from luminanet.fields import Field
from luminanet.topology import Topology
from training.data.batches import Batch
from training.model.network import Network
from training.step.trainer import Trainer

Choice = tuple[Field, ...]
"""All that a cluster sees: Cluster.fields."""


def worths(trainer: Trainer, batches: list[Batch]) -> dict[Choice, float]:
    """Every choice of the network -> the rise of the loss on `batches` when all clusters that made
    it are silent, per thousand MACs of a neuron that sees it: what a share of the budget buys."""
    model = trainer.model
    assert isinstance(model, Network)
    with_all = trainer.score(batches).loss
    found: dict[Choice, float] = {}
    for choice, clusters in by_choice(model.topology).items():
        with silent(model, clusters):
            rise = trainer.score(batches).loss - with_all
        found[choice] = 1000 * rise / _neuron_macs(model.topology, clusters)
    return found


def by_choice(topology: Topology) -> Mapping[Choice, list[int]]:
    """Every choice -> the clusters that made it."""
    found: dict[Choice, list[int]] = {}
    for cluster in topology.clusters:
        found.setdefault(cluster.fields, []).append(cluster.id)
    return found


@contextmanager
def silent(model: Network, clusters: Collection[int]) -> Iterator[None]:
    """Within it, nobody hears or reads these clusters."""
    kept = []
    with torch.no_grad():
        for g, group in enumerate(model.groups):
            rows = [k for k, cluster in enumerate(group.clusters) if cluster.id in clusters]
            for stack in (model.stack("send", g), model.stack("readout", g)):
                kept.append((stack, rows, stack[rows].clone()))
                stack[rows] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            for stack, rows, before in kept:
                stack[rows] = before


def _neuron_macs(topology: Topology, clusters: list[int]) -> float:
    own = [topology.cluster(c) for c in clusters]
    return mean(cluster_macs(topology, cluster) / cluster.width for cluster in own)
