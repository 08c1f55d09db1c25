"""Weight transfer across a mutation (as in Net2Net, Chen et al. 2015): weights, average, moments.

What becomes of the numbers is the operator's to say (operators/base.py, `carry`): most keep the
function exactly, some lose what they remove. What all have in common is here: what left the
topology is left out, new connections start silent, and gates make up for a new number of sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from luminanet.frozen import FrozenNet
from luminanet.topology import Connection, Topology
from training.evolution.operators.base import Operator, Role


@dataclass(frozen=True, slots=True)
class Slots:
    """All that training knows of a network; one container each, of the same topology."""

    weights: FrozenNet
    average: FrozenNet
    first_moment: FrozenNet
    second_moment: FrozenNet

    @property
    def topology(self) -> Topology:
        return self.weights.topology


def mutate(slots: Slots, mutation: Operator, seed: int) -> Slots:
    """All slots after the mutation; `seed` draws the new weights, the same for every slot."""

    def carry(net: FrozenNet, role: Role) -> FrozenNet:
        return transplant(net, mutation, seed, role)

    return Slots(
        weights=carry(slots.weights, Role.WEIGHT),
        average=carry(slots.average, Role.WEIGHT),
        first_moment=carry(slots.first_moment, Role.FIRST_MOMENT),
        second_moment=carry(slots.second_moment, Role.SECOND_MOMENT),
    )


def transplant(
    net: FrozenNet, mutation: Operator, seed: int = 0, role: Role = Role.WEIGHT
) -> FrozenNet:
    """`net` after `mutation`; raises TopologyError when it cannot be done."""
    topology = mutation.apply(net.topology)
    clusters, gates = mutation.carry(net, role, np.random.default_rng(seed))
    clusters = {c: weights for c, weights in clusters.items() if c in topology.by_id}
    gates = {c: gates.get(c, 0.0) for c in topology.connections}
    if role is Role.WEIGHT:
        gates = _same_share(gates, net.topology, topology)
    return FrozenNet(topology, clusters, gates, net.head)


def _same_share(
    gates: Mapping[Connection, float], before: Topology, after: Topology
) -> dict[Connection, float]:
    """Gates scaled by n_after / n_before, so that gate / n stays what it was."""

    def heard(topology: Topology, target: int) -> int:
        return max(1, len(topology.sources.get(target, ())))

    scaled = {}
    for connection, gate in gates.items():
        target = connection.target
        if target in before.by_id:
            # A cluster hears the mean over its sources: what was g / n has to stay g / n.
            gate = gate * heard(after, target) / heard(before, target)
        scaled[connection] = float(np.float32(gate))
    return scaled
