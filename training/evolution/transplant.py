"""Carry weights and optimizer state across a mutation.

A mutation keeps the function where it can:

    Split        exactly: the twin copies the input side. On its parent's level the output side
                 is divided by random shares that add up to one (so the two can learn different
                 things); on a deeper level, where what the twin hears may come earlier, the
                 parent keeps its output side and the twin's readout starts at zero
    Grow         exactly: new neurons start with zero outgoing weights
    Connect, Bus exactly: the gates start at zero, and the other gates make up for 1/n
    See, Refine  exactly: new rows start at zero, or share those of the whole (fields.py)
    Shrink, Disconnect, Remove, Overlook   lose what they remove, and nothing else

Adam's moments have the shape of the weights: they are copied, not scaled; new ones start at
zero, but the second moment of grown neurons at the mean of their cluster's and that of new fields
at the mean of their neuron's, so that their first steps are no larger than their neighbours'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

import numpy as np

from luminanet.fields import TextInput
from luminanet.frozen import Array, ClusterWeights, FrozenNet
from luminanet.topology import Connection, Topology
from training.evolution.fields import inherit
from training.evolution.mutations import (
    Bus,
    Connect,
    Disconnect,
    FieldChange,
    Grow,
    Mutation,
    Overlook,
    Refine,
    Remove,
    See,
    Shrink,
    Split,
    apply,
    bus,
    lineage,
    new_id,
)

NEURON_AXIS = {"see_IH": 1, "bias_H": 0, "hear_DH": 1, "send_HD": 0, "readout_HO": 0}
"""Which axis of each weight counts the neurons."""


class Role(Enum):
    """What the numbers of a container are: they follow a mutation differently."""

    WEIGHT = auto()
    FIRST_MOMENT = auto()
    SECOND_MOMENT = auto()


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


def mutate(slots: Slots, mutation: Mutation, seed: int) -> Slots:
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
    net: FrozenNet, mutation: Mutation, seed: int = 0, role: Role = Role.WEIGHT
) -> FrozenNet:
    """`net` after `mutation`; raises TopologyError when it cannot be done."""
    topology = apply(net.topology, mutation)
    rng = np.random.default_rng(seed)
    clusters = dict(net.clusters)
    gates = dict(net.gates)
    match mutation:
        case Split(parent, level):
            twin = new_id(net.topology)
            if level == net.topology.cluster(parent).level:
                shares = rng.uniform(0.25, 0.75, net.clusters[parent].readout_HO.shape)
                clusters[parent], clusters[twin] = _divide(net.clusters[parent], shares, role)
                gates = _split_gates(net, parent, twin, rng.uniform(0.25, 0.75), role)
            else:
                silent = np.zeros_like(net.clusters[parent].readout_HO)
                clusters[twin] = replace(net.clusters[parent], readout_HO=silent)
                heard = {c: g for c, g in gates.items() if c.target == parent}
                gates |= {replace(c, target=twin): gate for c, gate in heard.items()}
        case Grow(cluster, neurons):
            clusters[cluster] = _grown(net.clusters[cluster], neurons, rng, role)
        case Shrink(cluster, dropped):
            clusters[cluster] = _shrunk(net.clusters[cluster], dropped)
        case Connect(source, target):
            gates[Connection(source=source, target=target)] = 0.0
        case Disconnect():
            pass
        case Remove(cluster):
            del clusters[cluster]
        case Bus(source, target):
            gates |= dict.fromkeys(bus(net.topology, source, target), 0.0)
        case See() | Refine() | Overlook():
            clusters[mutation.cluster] = _looking(net, mutation, role)
    kept = {c: gates[c] for c in topology.connections}
    if role is Role.WEIGHT:
        kept = _same_share(kept, net.topology, topology)
    return FrozenNet(topology, clusters, kept, net.head)


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
            gate = gate * heard(after, target) / heard(before, target)
        scaled[connection] = float(np.float32(gate))
    return scaled


def _divide(
    weights: ClusterWeights, shares: np.ndarray, role: Role
) -> tuple[ClusterWeights, ClusterWeights]:
    if role is not Role.WEIGHT:
        return weights, weights
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


def _looking(net: FrozenNet, change: FieldChange, role: Role) -> ClusterWeights:
    topology, weights = net.topology, net.clusters[change.cluster]
    assert isinstance(topology.input, TextInput)
    before, embedding = len(topology.cluster(change.cluster).fields), topology.input.embedding
    mean = role is Role.SECOND_MOMENT
    see_IH = inherit(weights.see_IH, lineage(topology, change), before, embedding, mean)
    return replace(weights, see_IH=see_IH)
