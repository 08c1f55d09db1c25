"""Topology -> the visits of the two passes that matter, and whom each one hears.

The reference visits every cluster twice. Half of that can be dead work: pass 2 may hear just what
pass 1 heard, and pass 1 may say what nobody hears. Pure topology, no weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from luminanet.topology import Cluster, Connection, Kind, Topology


class Visit(NamedTuple):
    """A cluster visited in pass 1 or 2."""

    cluster: int
    number: int

    def __str__(self) -> str:
        return f"cluster{self.cluster}/pass{self.number}"


Heard = dict[Visit, tuple[Visit, ...]]
"""Visit -> the visits whose messages it hears."""


def schedule(topology: Topology) -> Heard:
    """The visits that matter, in order; the last one of a cluster is the one to read out.

    A visit of pass 2 that would hear what pass 1 heard is left out, and so is a visit of pass 1
    that nobody needs.
    """
    heard: Heard = {}
    for cluster in topology.clusters:
        below = (s for s in topology.sources[cluster.id] if _is_below(topology, s, cluster))
        heard[Visit(cluster.id, 1)] = tuple(Visit(source, 1) for source in below)
    last: dict[int, Visit] = {}
    for cluster in topology.clusters:
        first = Visit(cluster.id, 1)
        hears = tuple(
            last[source] if _is_below(topology, source, cluster) else Visit(source, 1)
            for source in topology.sources[cluster.id]
        )
        last[cluster.id] = first if hears == heard[first] else Visit(cluster.id, 2)
        heard[last[cluster.id]] = hears
    needed = set(last.values())
    for visit in reversed(heard):
        if visit in needed:
            needed.update(heard[visit])
    return {visit: hears for visit, hears in heard.items() if visit in needed}


def stages(topology: Topology) -> dict[str, Heard]:
    """The schedule by pass and level: visits of one stage hear only those of earlier stages."""

    def stage(visit: Visit) -> str:
        return f"level{topology.cluster(visit.cluster).level}/pass{visit.number}"

    heard = schedule(topology)
    return {name: {visit: heard[visit] for visit in group} for name, group in groupby(heard, stage)}


def sources_of(heard: Heard) -> set[Visit]:
    """Everyone who is heard."""
    return {source for sources in heard.values() for source in sources}


@dataclass(frozen=True, slots=True)
class Plan:
    """A topology and who is visited when: the stages, the visits whose messages are heard, and the
    last one of every cluster."""

    topology: Topology
    stages: dict[str, Heard]
    spoken: set[Visit]
    last: set[Visit]

    def width(self, visit: Visit) -> int:
        return self.topology.cluster(visit.cluster).width

    def widths(self, visits: Iterable[Visit]) -> int:
        return sum(map(self.width, visits))

    def heard_stages(self, heard: Heard) -> list[str]:
        """The stages with a visit that is heard."""
        sources = sources_of(heard)
        return [name for name, visits in self.stages.items() if not sources.isdisjoint(visits)]


def planned(topology: Topology) -> Plan:
    found = stages(topology)
    visits = [visit for stage in found.values() for visit in stage]
    spoken = {source for stage in found.values() for source in sources_of(stage)}
    # In the order of visits, so that of a cluster's two the later one stays.
    last = {visit.cluster: visit for visit in visits}
    return Plan(topology, found, spoken, set(last.values()))


def _is_below(topology: Topology, source: int, target: Cluster) -> bool:
    return topology.kind(Connection(source=source, target=target.id)) is Kind.FEEDFORWARD
