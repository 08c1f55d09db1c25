"""The two passes level by level: the clusters that are visited together are one tensor.

What the forms of batched.py and fused.py have in common: who is visited when, who is heard, and
who is read out. Shape legend: that of frozen.py, and B batch.
"""

from abc import ABC, abstractmethod
from itertools import groupby

from export.network.lowerings import Hidden, Scope
from export.network.projection import Sight
from export.network.views import Views, by_cluster
from luminanet.frozen import FrozenNet
from luminanet.schedule import Heard, schedule, stages
from luminanet.topology import Topology


class Levelwise(ABC):
    """One graph in the making; every method adds nodes and returns the name of its result."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        self.graph = graph
        self.net = net
        self.sight = sight
        self.stages = stages(net.topology)
        heard = schedule(net.topology)
        self.spoken = {source for hears in heard.values() for source in hears}
        self.last = set({visit.cluster: visit for visit in heard}.values())
        self.hidden: dict[str, str] = {}
        clusters = groupby(net.topology.clusters, lambda c: f"level{c.level}")
        self.levels = {level: [c.id for c in found] for level, found in clusters}

    @staticmethod
    def views(topology: Topology) -> Views:
        """What is seen together."""
        return by_cluster(topology)

    def heard_stages(self, heard: Heard) -> list[str]:
        """The stages with a visit that is heard."""
        sources = {source for hears in heard.values() for source in hears}
        return [stage for stage, visits in self.stages.items() if sources.intersection(visits)]

    @abstractmethod
    def last_hidden(self) -> Hidden:
        """Adds all visits."""


def level_of(stage: str) -> str:
    return stage.split("/")[0]
