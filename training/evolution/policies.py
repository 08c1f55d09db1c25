"""Rankings of what evolution tries next: by gradient, by Hebbian correlation, or by chance.

schedule.py turns rankings into mutations.

    random     ranks by chance: the control that every other policy has to beat
    gradient   as RigL does (Evci et al. 2020): grows where the gradient is largest, connects and
               sees where absent weights have the largest, prunes the smallest gates and fields
    hebbian    grows what is most active, connects and sees what fires together, prunes what does
               not

Policies differ in their rankings only; operators, their rhythm and the budgets are the same. But
for chance, receptive fields and buses are ranked by what they promise per cost (budget.py), and so
is all else where the cost is latency.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import ConfigError
from luminanet.fields import TextField, TextInput, order_of
from luminanet.frozen import FrozenNet
from luminanet.topology import Connection, Topology
from training.config import EvolutionConfig
from training.evolution.budget import FREE, added, possible, saved
from training.evolution.field_candidates import candidates
from training.evolution.operators.base import Field, Operator
from training.evolution.operators.clusters import Grow
from training.evolution.operators.connections import Connect, ConnectLevels, Link
from training.evolution.operators.fields import AddField, DropField, SplitField
from training.evolution.signals import Signals


@dataclass(frozen=True, slots=True)
class View:
    """All that a policy may look at, at event `number`; `young` connections are left in peace."""

    net: FrozenNet
    signals: Signals
    config: EvolutionConfig
    number: int
    seed: int
    young: frozenset[Connection] = frozenset()
    fresh: frozenset[Field] = frozenset()
    """Fields that are as young."""

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

    def weight(self, cluster: int, field: TextField) -> float:
        """The size of what a cluster does with a field: inputs are normed, so this is how loud
        the field is."""
        seen, net = self.topology.cluster(cluster).text_fields, self.net
        size = self.topology.inputs(self.topology.cluster(cluster)) // len(seen)
        at = seen.index(field) * size
        return float(np.linalg.norm(net.clusters[cluster].see_IH[at : at + size]))

    def priced(self, mutation: Operator) -> float:
        """What a mutation's score is divided by: the share of the cost that it adds."""
        return added(self.topology, mutation, self.config)


@dataclass(frozen=True, slots=True)
class Policy:
    """Scores; what scores highest is grown, split, connected or seen first, and pruned last."""

    cluster: Callable[[View, int], float]
    absent: Callable[[View, Connection], float]
    present: Callable[[View, Connection], float]
    unseen: Callable[[View, AddField | SplitField], float]
    seen: Callable[[View, Field], float]
    per_cost: bool = True

    def clusters(self, view: View) -> list[int]:
        """Cluster ids, the best first; new ones (not yet measured) are left out."""
        known = [c for c in view.net.clusters if c in view.signals.gradient]

        def score(c: int) -> float:
            grown = self.cluster(view, c)
            return grown / view.priced(Grow(c, view.config.neurons)) if self.dear(view) else grown

        return sorted(known, key=lambda c: (-score(c), c))

    def candidates(self, view: View) -> list[Connection]:
        """Connections that are not there and may be made, the best first."""
        absent = [c for c in view.signals.worth if c not in view.net.gates and _allowed(view, c)]

        def score(c: Connection) -> float:
            link = Connect(source=c.source, target=c.target)
            return self.joined(view, link) if self.dear(view) else self.absent(view, c)

        scores = {c: score(c) for c in absent}
        return sorted(absent, key=lambda c: (-scores[c], c))

    def buses(self, view: View) -> list[ConnectLevels]:
        """Levels that may be connected and are not, the best first."""
        found = open_buses(view)
        scores = {link: self.joined(view, link) for link in found}
        return sorted(found, key=lambda link: (-scores[link], link.source, link.target))

    def joined(self, view: View, link: Link) -> float:
        """What connecting promises per cost: the sum over all connections that it makes."""
        if not self.per_cost:
            # The third number lets levels and clusters of the same numbers draw apart.
            return _chance(view, link.source, link.target, isinstance(link, ConnectLevels))
        known = [c for c in link.made(view.topology) if c in view.signals.worth]
        return sum(self.absent(view, c) for c in known) / view.priced(link)

    def changes(self, view: View) -> list[AddField | SplitField]:
        """What clusters may see next, the best first; new clusters are left out."""
        wanted = [c for c in candidates(view.topology) if c in view.signals.prospects]
        scores = {
            c: self.unseen(view, c) / (view.priced(c) if self.per_cost else 1.0) for c in wanted
        }
        return sorted(wanted, key=lambda c: -scores[c])

    def overlooked(self, view: View) -> list[DropField]:
        """Fields that may go, those first that give least for what they cost; the last one of a
        cluster and fresh ones stay."""
        if not isinstance(view.topology.input, TextInput):
            return []
        old = [
            (c.id, field)
            for c in view.topology.clusters
            for field in c.text_fields
            if len(c.fields) > 1 and (c.id, field) not in view.fresh
        ]

        def score(field: Field) -> float:
            without = _without(field).apply(view.topology)
            saves = saved(view.topology, without, view.config) if self.per_cost else 1.0
            return self.seen(view, field) / max(saves, FREE)

        scores = {field: score(field) for field in old}
        return [_without(own) for own in sorted(old, key=lambda own: (scores[own], _of(own)))]

    def weakest(self, view: View) -> list[Connection]:
        """Connections that may be pruned, the worst first."""
        old = [c for c in view.net.gates if c not in view.young]
        return sorted(old, key=lambda c: (self.present(view, c), c))

    def dear(self, view: View) -> bool:
        """Whether growth and connections, too, are ranked per cost."""
        return self.per_cost and view.config.cost == "latency"


def _allowed(view: View, connection: Connection) -> bool:
    """Whether both ends are (still) there, and the kind of connection may be made."""
    if not {connection.source, connection.target} <= set(view.net.clusters):
        return False
    return view.topology.kind(connection) in view.config.kinds


def open_buses(view: View) -> list[ConnectLevels]:
    """Levels between which something is missing, all of which may be made."""
    levels = sorted({c.level for c in view.topology.clusters})
    pairs = [ConnectLevels(*pair) for pair in product(levels, levels)]
    return [
        link
        for link in pairs
        if possible(view.topology, link)
        and all(_allowed(view, c) for c in link.made(view.topology))
    ]


def _without(field: Field) -> DropField:
    return DropField(*field)


def _chance(view: View, *what: int) -> float:
    return float(np.random.default_rng([view.seed, view.number, *what]).random())


def _strength(view: View, connection: Connection) -> float:
    """How loud a connection is: its gate times what its source says."""
    return abs(view.net.gates[connection]) * view.signals.activity.get(connection.source, 0.0)


def _spelled(change: AddField | SplitField) -> list[int]:
    return [change.cluster, *(n for _, field in change.brings() for n in astuple(field))]


def _of(field: Field) -> tuple[int, int, tuple[int, ...]]:
    return field[0], *order_of(field[1])


POLICIES = {
    "random": Policy(
        cluster=lambda view, c: _chance(view, c),
        absent=lambda view, c: _chance(view, c.source, c.target),
        present=lambda view, c: _chance(view, c.source, c.target),
        unseen=lambda view, change: _chance(view, *_spelled(change)),
        seen=lambda view, field: _chance(view, field[0], *astuple(field[1])),
        per_cost=False,
    ),
    "gradient": Policy(
        cluster=lambda view, c: view.signals.gradient[c],
        absent=lambda view, c: view.signals.worth[c],
        present=_strength,
        unseen=lambda view, change: view.signals.prospects[change],
        seen=lambda view, field: view.weight(*field),
    ),
    "hebbian": Policy(
        cluster=lambda view, c: view.signals.activity[c],
        absent=lambda view, c: view.signals.agreement[c],
        present=lambda view, c: _strength(view, c) * view.signals.agreement.get(c, 0.0),
        unseen=lambda view, change: view.signals.resonance[change],
        seen=lambda view, field: view.weight(*field),
    ),
}


def policy(name: str) -> Policy:
    if name not in POLICIES:
        raise ConfigError(f"policy {name!r} is none of {sorted(POLICIES)}")
    return POLICIES[name]
