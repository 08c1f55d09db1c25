"""Operators on clusters: split one, grow or shrink it by neurons, remove it.

Split      exactly: the twin copies the input side. On its parent's level the output side is
           divided by random shares that add up to one (so the two can learn different
           things); on a deeper level, where what the twin hears may come earlier, the parent
           keeps its output side and the twin's readout starts at zero
Grow       exactly: new neurons start with zero outgoing weights
Shrink, Remove   lose what they remove, and nothing else
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from luminanet.errors import TopologyError
from luminanet.frozen import Array, ClusterWeights, FrozenNet
from luminanet.topology import Cluster, Connection, Topology
from training.evolution.operators.base import CLUSTER, Carried, Operator, Role

NEURON_AXIS = {"see_IH": 1, "bias_H": 0, "hear_DH": 1, "send_HD": 0, "readout_HO": 0}
"""Which axis of each weight counts the neurons."""


@dataclass(frozen=True, slots=True)
class OneCluster(Operator):
    """What all operators on one cluster have in common."""

    cluster: int
    noun: ClassVar[str] = CLUSTER

    def targets(self, _before: Topology) -> list[list[int]]:
        return [[self.cluster]]


@dataclass(frozen=True, slots=True)
class Split(OneCluster):
    """Divide a cluster in two: on its own level, or with the new one on a deeper `level`."""

    level: int
    name: ClassVar[str] = "split"
    verb: ClassVar[str] = "split"

    def apply(self, topology: Topology) -> Topology:
        """The twin sees and hears what its parent does.

        On the parent's level it also speaks to all who hear the parent; on a deeper level it
        speaks to nobody yet.
        """
        parent = topology.cluster(self.cluster)
        if self.level < parent.level:
            raise TopologyError(f"cluster {parent.id} cannot be split towards a lower level")
        twin = replace(parent, id=new_id(topology), level=self.level)
        both = (parent.id, twin.id)
        # Each end that is the parent becomes both: a recurrent connection becomes four, or two.
        speakers = both if self.level == parent.level else both[:1]
        links = {
            Connection(source=s, target=t)
            for link in topology.connections
            for s in (speakers if link.source == parent.id else (link.source,))
            for t in (both if link.target == parent.id else (link.target,))
        }
        return topology.having([*topology.clusters, twin], links)

    def carry(self, net: FrozenNet, role: Role, rng: np.random.Generator) -> Carried:
        clusters, gates = dict(net.clusters), dict(net.gates)
        parent, twin = self.cluster, new_id(net.topology)
        if self.level == net.topology.cluster(parent).level:
            shares = rng.uniform(0.25, 0.75, net.clusters[parent].readout_HO.shape)
            clusters[parent], clusters[twin] = _divide(net.clusters[parent], shares, role)
            gates = _split_gates(net, parent, twin, rng.uniform(0.25, 0.75), role)
        else:
            silent = np.zeros_like(net.clusters[parent].readout_HO)
            clusters[twin] = replace(net.clusters[parent], readout_HO=silent)
            heard = {c: g for c, g in gates.items() if c.target == parent}
            gates |= {replace(c, target=twin): gate for c, gate in heard.items()}
        return clusters, gates


@dataclass(frozen=True, slots=True)
class Grow(OneCluster):
    """Add neurons to a cluster."""

    neurons: int
    name: ClassVar[str] = "grow"
    verb: ClassVar[str] = "grow"

    def apply(self, topology: Topology) -> Topology:
        if self.neurons < 1:
            raise TopologyError(f"a growth by {self.neurons} neurons is none")
        return _resized(topology, topology.cluster(self.cluster), self.neurons)

    def carry(self, net: FrozenNet, role: Role, rng: np.random.Generator) -> Carried:
        grown = _grown(net.clusters[self.cluster], self.neurons, rng, role)
        return {**net.clusters, self.cluster: grown}, dict(net.gates)


@dataclass(frozen=True, slots=True)
class Shrink(OneCluster):
    """Remove these neurons (indices) from a cluster."""

    neurons: tuple[int, ...]
    name: ClassVar[str] = "shrink"
    verb: ClassVar[str] = "shrink"
    exact: ClassVar[bool] = False

    def apply(self, topology: Topology) -> Topology:
        cluster, dropped = topology.cluster(self.cluster), set(self.neurons)
        inside = dropped <= set(range(cluster.width)) and len(dropped) == len(self.neurons)
        if not dropped or not inside or len(dropped) == cluster.width:
            raise TopologyError(
                f"cluster {cluster.id} has {cluster.width} neurons: name some of them, not all"
            )
        return _resized(topology, cluster, -len(dropped))

    def carry(self, net: FrozenNet, _role: Role, _rng: np.random.Generator) -> Carried:
        shrunk = _shrunk(net.clusters[self.cluster], self.neurons)
        return {**net.clusters, self.cluster: shrunk}, dict(net.gates)


@dataclass(frozen=True, slots=True)
class Remove(OneCluster):
    """Prune a whole cluster, with all its connections."""

    name: ClassVar[str] = "remove"
    verb: ClassVar[str] = "remove"
    exact: ClassVar[bool] = False

    def apply(self, topology: Topology) -> Topology:
        gone = topology.cluster(self.cluster).id
        clusters = [c for c in topology.clusters if c.id != gone]
        links = [c for c in topology.connections if gone not in (c.source, c.target)]
        return topology.having(clusters, links)


def new_id(topology: Topology) -> int:
    return max(topology.by_id) + 1


def _resized(topology: Topology, cluster: Cluster, neurons: int) -> Topology:
    resized = replace(cluster, width=cluster.width + neurons)
    clusters = [resized if c.id == cluster.id else c for c in topology.clusters]
    return topology.having(clusters, topology.connections)


# ---------------------------------------------------------------------- weights


def _divide(
    weights: ClusterWeights, shares: np.ndarray, role: Role
) -> tuple[ClusterWeights, ClusterWeights]:
    if role is not Role.WEIGHT:
        return weights, weights
    # The rest by subtraction, not by 1 - shares: the two add up to the whole, but for rounding.
    part = (weights.readout_HO * shares).astype(np.float32)
    return replace(weights, readout_HO=part), replace(weights, readout_HO=weights.readout_HO - part)


def _split_gates(
    net: FrozenNet, parent: int, twin: int, share: float, role: Role
) -> dict[Connection, float]:
    """Who heard the parent hears both, in shares; the twin hears what the parent heard.

    The scale n_after / n_before of the twin's gates is applied here, because the twin has no
    "before".
    """
    gates: dict[Connection, float] = {}
    for connection, gate in net.gates.items():
        targets = (parent, twin) if connection.target == parent else (connection.target,)
        for target in targets:
            if connection.source != parent:
                gates[Connection(source=connection.source, target=target)] = gate
                continue
            for source, part in ((parent, share), (twin, 1 - share)):
                scale = part if role is Role.WEIGHT else 1.0
                gates[Connection(source=source, target=target)] = gate * scale
    recurrent = Connection(source=parent, target=parent) in net.gates
    # A recurrent parent is one source more for both, the parent and its twin.
    if recurrent and role is Role.WEIGHT:
        n = len(net.topology.sources[parent])
        for connection in [c for c in gates if c.target == twin]:
            gates[connection] *= (n + 1) / n
    return gates


def _grown(
    weights: ClusterWeights, neurons: int, rng: np.random.Generator, role: Role
) -> ClusterWeights:
    inputs, channel = weights.see_IH.shape[0], weights.hear_DH.shape[0]
    fresh = {
        "see_IH": rng.standard_normal((inputs, neurons)) / np.sqrt(max(1, inputs)),
        "hear_DH": rng.standard_normal((channel, neurons)) / np.sqrt(channel),
        "bias_H": np.zeros(neurons),
        "send_HD": np.zeros((neurons, channel)),
        "readout_HO": np.zeros((neurons, weights.readout_HO.shape[1])),
    }

    def joined(name: str, axis: int) -> Array:
        old, new = getattr(weights, name), fresh[name]
        if role is Role.FIRST_MOMENT:
            new = np.zeros_like(new)
        elif role is Role.SECOND_MOMENT:
            new = np.full_like(new, old.mean() if old.size else 0.0)
        return np.concatenate([old, new.astype(np.float32)], axis)

    return ClusterWeights(**{name: joined(name, axis) for name, axis in NEURON_AXIS.items()})


def _shrunk(weights: ClusterWeights, dropped: tuple[int, ...]) -> ClusterWeights:
    def kept(name: str, axis: int) -> Array:
        array: Array = np.delete(getattr(weights, name), dropped, axis)
        return array

    return ClusterWeights(**{name: kept(name, axis) for name, axis in NEURON_AXIS.items()})
