"""Operators on connections: make one, prune one, make all that two levels lack.

New ones keep the function exactly: their gates start at zero, and the other gates make up for the
1/n of the mean over sources. Pruning loses what was said over the connection, and nothing else.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from luminanet.errors import TopologyError
from luminanet.topology import Connection, Topology
from training.evolution.operators.base import CONNECTION, Operator


@dataclass(frozen=True, slots=True)
class Link(Operator):
    """What makes connections from a source to a target, be they clusters or levels."""

    source: int
    target: int
    verb: ClassVar[str] = "add"
    noun: ClassVar[str] = CONNECTION
    connects: ClassVar[bool] = True

    @abstractmethod
    def made(self, topology: Topology) -> list[Connection]:
        """The new connections; raises TopologyError when there is none."""

    def apply(self, topology: Topology) -> Topology:
        made = self.made(topology)
        return topology.having(topology.clusters, [*topology.connections, *made])

    def targets(self, before: Topology) -> list[list[int]]:
        return [[c.source, c.target] for c in self.made(before)]


@dataclass(frozen=True, slots=True)
class Connect(Link):
    """Let the cluster `target` hear the cluster `source`."""

    name: ClassVar[str] = "connect"

    def made(self, _topology: Topology) -> list[Connection]:
        return [Connection(source=self.source, target=self.target)]


@dataclass(frozen=True, slots=True)
class ConnectLevels(Link):
    """Let all clusters of the level `target` hear all of the level `source` ("bus" in logs)."""

    name: ClassVar[str] = "bus"
    verb: ClassVar[str] = "connect levels by"

    def made(self, topology: Topology) -> list[Connection]:
        """Those that are missing between two levels, or within one."""
        missing = [
            Connection(source=s.id, target=t.id)
            for t in topology.clusters
            for s in topology.clusters
            if (s.level, t.level) == (self.source, self.target)
            and s.id not in topology.sources[t.id]
        ]
        if not missing:
            raise TopologyError(
                f"level {self.target} hears all of level {self.source}, or one has no clusters"
            )
        return missing


@dataclass(frozen=True, slots=True)
class Disconnect(Operator):
    """Prune a connection."""

    source: int
    target: int
    name: ClassVar[str] = "disconnect"
    verb: ClassVar[str] = "prune"
    noun: ClassVar[str] = CONNECTION
    exact: ClassVar[bool] = False

    def apply(self, topology: Topology) -> Topology:
        connection = Connection(source=self.source, target=self.target)
        if connection not in topology.connections:
            raise TopologyError(f"there is no {connection}")
        links = [link for link in topology.connections if link != connection]
        return topology.having(topology.clusters, links)

    def targets(self, _before: Topology) -> list[list[int]]:
        return [[self.source, self.target]]
