"""Topology -> Topology: the operators of evolution, as data and pure functions.

What happens to the weights is in transplant.py. Source: arXiv 2601.19508 (splitting, growth,
connection, pruning); what keeps the function is our choice, see transplant.py.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from luminanet.errors import TopologyError
from luminanet.fields import Interval, TextField, TextInput, text_field
from luminanet.topology import Cluster, Connection, Topology
from training.evolution.fields import Lineage, overlooking, refining, seeing


@dataclass(frozen=True, slots=True)
class Split:
    """Divide a cluster in two: on its own level, or with the new one on a deeper `level`."""

    cluster: int
    level: int


@dataclass(frozen=True, slots=True)
class Grow:
    """Add neurons to a cluster."""

    cluster: int
    neurons: int


@dataclass(frozen=True, slots=True)
class Shrink:
    """Remove these neurons (indices) from a cluster."""

    cluster: int
    neurons: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Connect:
    """Let `target` hear `source`."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Prune a connection."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Prune a whole cluster, with all its connections."""

    cluster: int


@dataclass(frozen=True, slots=True)
class Bus:
    """Let all clusters of the level `target` hear all of the level `source`."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class See:
    """Let a text cluster see an interval of lags, or a recall, as well."""

    cluster: int
    field: TextField


@dataclass(frozen=True, slots=True)
class Refine:
    """Cut the interval [start, stop) of a text cluster into [start, middle) and [middle, stop)."""

    cluster: int
    start: int
    middle: int
    stop: int


@dataclass(frozen=True, slots=True)
class Overlook:
    """Let a text cluster no longer see a field."""

    cluster: int
    field: TextField


FieldChange = See | Refine | Overlook
Mutation = Split | Grow | Shrink | Connect | Disconnect | Remove | Bus | FieldChange
OPERATORS: dict[str, type[Mutation]] = {
    kind.__name__.lower(): kind
    for kind in (Split, Grow, Shrink, Connect, Disconnect, Remove, Bus, See, Refine, Overlook)
}


def record(mutation: Mutation) -> dict[str, Any]:
    """Plain JSON types; `recorded` reads them back."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(mutation).items()}
    return {"operator": type(mutation).__name__.lower(), **plain}


def recorded(raw: Mapping[str, Any]) -> Mutation:
    """Raises TopologyError when `raw` is not what `record` writes."""
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    try:
        if "field" in plain:
            plain["field"] = text_field(plain["field"])
        return OPERATORS[plain.pop("operator")](**plain)
    except (KeyError, TypeError) as error:
        raise TopologyError(f"{dict(raw)} is not a mutation: {error}") from error


def apply(topology: Topology, mutation: Mutation) -> Topology:
    """The mutated topology; raises TopologyError when the mutation cannot be done."""
    match mutation:
        case Split(cluster, level):
            return split(topology, topology.cluster(cluster), level)
        case Grow(cluster, neurons):
            if neurons < 1:
                raise TopologyError(f"a growth by {neurons} neurons is none")
            return resize(topology, topology.cluster(cluster), neurons)
        case Shrink(cluster, dropped):
            return shrink(topology, topology.cluster(cluster), dropped)
        case Connect(source, target):
            link = Connection(source=source, target=target)
            return topology.having(topology.clusters, [*topology.connections, link])
        case Disconnect(source, target):
            return disconnect(topology, Connection(source=source, target=target))
        case Remove(cluster):
            return remove(topology, topology.cluster(cluster))
        case Bus(source, target):
            return topology.having(
                topology.clusters, [*topology.connections, *bus(topology, source, target)]
            )
        case See() | Refine() | Overlook():
            return look(topology, mutation)


def new_id(topology: Topology) -> int:
    return max(topology.by_id) + 1


def split(topology: Topology, parent: Cluster, level: int) -> Topology:
    """The twin sees and hears what its parent does.

    On the parent's level it also speaks to all who hear the parent; on a deeper level it speaks
    to nobody yet.
    """
    if level < parent.level:
        raise TopologyError(f"cluster {parent.id} cannot be split towards a lower level")
    twin = replace(parent, id=new_id(topology), level=level)
    speaks = level == parent.level
    links = {
        Connection(source=s, target=t)
        for link in topology.connections
        for s in (_both(link.source, parent.id, twin.id) if speaks else (link.source,))
        for t in _both(link.target, parent.id, twin.id)
    }
    return topology.having([*topology.clusters, twin], links)


def _both(end: int, parent: int, twin: int) -> tuple[int, ...]:
    return (parent, twin) if end == parent else (end,)


def resize(topology: Topology, cluster: Cluster, neurons: int) -> Topology:
    resized = replace(cluster, width=cluster.width + neurons)
    clusters = [resized if c.id == cluster.id else c for c in topology.clusters]
    return topology.having(clusters, topology.connections)


def shrink(topology: Topology, cluster: Cluster, dropped: tuple[int, ...]) -> Topology:
    inside = set(dropped) <= set(range(cluster.width)) and len(set(dropped)) == len(dropped)
    if not dropped or not inside or len(dropped) == cluster.width:
        raise TopologyError(
            f"cluster {cluster.id} has {cluster.width} neurons: name some of them, not all"
        )
    return resize(topology, cluster, -len(dropped))


def disconnect(topology: Topology, connection: Connection) -> Topology:
    if connection not in topology.connections:
        raise TopologyError(f"there is no {connection}")
    links = [link for link in topology.connections if link != connection]
    return topology.having(topology.clusters, links)


def remove(topology: Topology, cluster: Cluster) -> Topology:
    clusters = [c for c in topology.clusters if c.id != cluster.id]
    links = [c for c in topology.connections if cluster.id not in (c.source, c.target)]
    return topology.having(clusters, links)


def bus(topology: Topology, source: int, target: int) -> list[Connection]:
    """The connections that are missing between two levels, or within one.

    Raises TopologyError when there is none.
    """
    missing = [
        Connection(source=s.id, target=t.id)
        for t in topology.clusters
        for s in topology.clusters
        if (s.level, t.level) == (source, target) and s.id not in topology.sources[t.id]
    ]
    if not missing:
        raise TopologyError(f"level {target} hears all of level {source}, or one has no clusters")
    return missing


def look(topology: Topology, change: FieldChange) -> Topology:
    cluster = topology.cluster(change.cluster)
    fields = tuple(field for field, _ in lineage(topology, change))
    clusters = [replace(c, fields=fields) if c == cluster else c for c in topology.clusters]
    return topology.having(clusters, topology.connections)


def lineage(topology: Topology, change: FieldChange) -> Lineage:
    """What a cluster sees after a change, and where each field comes from (fields.py)."""
    cluster = topology.cluster(change.cluster)
    if not isinstance(topology.input, TextInput):
        raise TopologyError("only the fields of text clusters change")
    match change:
        case See(field=field):
            return seeing(cluster, field)
        case Refine(start=start, middle=middle, stop=stop):
            return refining(cluster, Interval(start, stop), middle)
        case Overlook(field=field):
            return overlooking(cluster, field)
