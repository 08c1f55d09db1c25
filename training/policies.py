"""What evolution tries next: a policy ranks, the plans turn its rankings into mutations.

    random     ranks by chance: the control that every other policy has to beat
    gradient   grows where the gradient is largest, connects where message and gradient go
               together, prunes the smallest gates
    hebbian    grows what is most active, connects what fires together, prunes what does not

Policies differ in their rankings only; operators, their rhythm and the budgets are the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luminanet.cost import macs
from luminanet.errors import ConfigError
from luminanet.frozen import FrozenNet
from luminanet.topology import Connection, Topology
from training.config import EvolutionConfig
from training.mutations import (
    Connect,
    Disconnect,
    Grow,
    Mutation,
    Remove,
    Shrink,
    Split,
    apply,
)
from training.signals import Signals

MIN_CONNECTIONS = 16
"""Fewer connections are not pruned."""


@dataclass(frozen=True, slots=True)
class View:
    """All that a policy may look at, at event `number`; `young` connections are left in peace."""

    net: FrozenNet
    signals: Signals
    config: EvolutionConfig
    number: int
    seed: int
    young: frozenset[Connection] = frozenset()

    @property
    def topology(self) -> Topology:
        return self.net.topology

    @property
    def building(self) -> bool:
        """Whether this event may add; removals are rarer then."""
        return self.number < self.config.building

    def saliency(self, cluster: int) -> NDArray[np.float32]:
        """Per neuron, the size of its outgoing weights."""
        weights = self.net.clusters[cluster]
        outgoing = np.concatenate([weights.send_HD, weights.readout_HO], axis=1)
        return np.asarray(np.linalg.norm(outgoing, axis=1))


@dataclass(frozen=True, slots=True)
class Policy:
    """Scores; what scores highest is grown, split or connected first, and pruned last."""

    cluster: Callable[[View, int], float]
    absent: Callable[[View, Connection], float]
    present: Callable[[View, Connection], float]

    def clusters(self, view: View) -> list[int]:
        """Cluster ids, the best first; new ones (not yet measured) are left out."""
        known = [c for c in view.net.clusters if c in view.signals.gradient]
        return sorted(known, key=lambda c: (-self.cluster(view, c), c))

    def candidates(self, view: View) -> list[Connection]:
        """Connections that are not there and may be made, the best first."""
        absent = [c for c in view.signals.worth if c not in view.net.gates and _allowed(view, c)]
        return sorted(absent, key=lambda c: (-self.absent(view, c), c))

    def weakest(self, view: View) -> list[Connection]:
        """Connections that may be pruned, the worst first."""
        old = [c for c in view.net.gates if c not in view.young]
        return sorted(old, key=lambda c: (self.present(view, c), c))


def _allowed(view: View, connection: Connection) -> bool:
    """Whether both ends are (still) there, and the kind of connection may be made."""
    if not {connection.source, connection.target} <= set(view.net.clusters):
        return False
    return view.topology.kind(connection) in view.config.kinds


def _chance(view: View, *what: int) -> float:
    return float(np.random.default_rng([view.seed, view.number, *what]).random())


def _strength(view: View, connection: Connection) -> float:
    """How loud a connection is: its gate times what its source says."""
    return abs(view.net.gates[connection]) * view.signals.activity.get(connection.source, 0.0)


POLICIES = {
    "random": Policy(
        cluster=lambda view, c: _chance(view, c),
        absent=lambda view, c: _chance(view, c.source, c.target),
        present=lambda view, c: _chance(view, c.source, c.target),
    ),
    "gradient": Policy(
        cluster=lambda view, c: view.signals.gradient[c],
        absent=lambda view, c: view.signals.worth[c],
        present=_strength,
    ),
    "hebbian": Policy(
        cluster=lambda view, c: view.signals.activity[c],
        absent=lambda view, c: view.signals.agreement[c],
        present=lambda view, c: _strength(view, c) * view.signals.agreement.get(c, 0.0),
    ),
}


def policy(name: str) -> Policy:
    if name not in POLICIES:
        raise ConfigError(f"policy {name!r} is none of {sorted(POLICIES)}")
    return POLICIES[name]


# ---------------------------------------------------------------------- plans

Plan = Callable[[View, Policy], list[Mutation]]


def affordable(topology: Topology, config: EvolutionConfig) -> bool:
    """Whether a topology keeps all budgets; a budget of 0 is none."""
    return (
        topology.parameters <= config.max_parameters
        and (not config.max_clusters or len(topology.clusters) <= config.max_clusters)
        and (not config.max_connections or len(topology.connections) <= config.max_connections)
        and (not config.max_macs or macs(topology) <= config.max_macs)
    )


def _taken(view: View, wanted: Iterable[Mutation], limit: int) -> list[Mutation]:
    """The first `limit` mutations that the budgets allow, one on top of the other."""
    topology, taken = view.topology, list[Mutation]()
    for mutation in wanted:
        if len(taken) == limit:
            break
        changed = apply(topology, mutation)
        if affordable(changed, view.config):
            topology = changed
            taken.append(mutation)
    return taken


def prune_connections(view: View, policy: Policy) -> list[Mutation]:
    """Every third event, later every one: the worst connections, but no young ones."""
    if (view.building and view.number % 3 != 2) or len(view.net.gates) < MIN_CONNECTIONS:
        return []
    weakest = policy.weakest(view)
    worst = weakest[: int(view.config.pruned * len(weakest))]
    return [Disconnect(c.source, c.target) for c in worst]


def remove_cluster(view: View, _policy: Policy) -> list[Mutation]:
    """Every sixth event: the cluster that says least, by its readout and its messages."""
    if view.number % 6 != 4 or len(view.net.clusters) < 2:
        return []
    return [Remove(min(view.net.clusters, key=lambda c: (float(view.saliency(c).sum()), c)))]


def shrink_cluster(view: View, policy: Policy) -> list[Mutation]:
    """Every sixth event: the weakest neurons of the worst cluster that can spare them."""
    neurons = view.config.neurons
    wide = [c for c in policy.clusters(view) if view.topology.cluster(c).width > 2 * neurons]
    if view.number % 6 != 1 or not wide:
        return []
    weakest = np.argsort(view.saliency(wide[-1]), kind="stable")[:neurons]
    return [Shrink(wide[-1], tuple(sorted(weakest.tolist())))]


def grow_clusters(view: View, policy: Policy) -> list[Mutation]:
    """The best clusters that may still grow, while the budgets last."""
    config = view.config
    narrow = config.max_width - config.neurons
    if not view.building:
        return []
    wanted = (
        Grow(c, config.neurons)
        for c in policy.clusters(view)
        if view.topology.cluster(c).width <= narrow
    )
    return _taken(view, wanted, config.grown)


def split_cluster(view: View, policy: Policy) -> list[Mutation]:
    """Every second event: the best cluster, towards the next level while there is one."""
    if view.number % 2 or not view.building:
        return []
    deepest = view.config.max_level
    levels = {c.id: max(c.level, min(c.level + 1, deepest)) for c in view.topology.clusters}
    return _taken(view, (Split(c, levels[c]) for c in policy.clusters(view)), 1)


def connect_clusters(view: View, policy: Policy) -> list[Mutation]:
    """The best connections that are not there."""
    if not view.building:
        return []
    wanted = (Connect(c.source, c.target) for c in policy.candidates(view))
    return _taken(view, wanted, view.config.connections)


PLANS: tuple[Plan, ...] = (
    prune_connections,
    remove_cluster,
    shrink_cluster,
    grow_clusters,
    split_cluster,
    connect_clusters,
)
