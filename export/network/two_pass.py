"""The two passes in the making: what every form has in common, whatever nodes it adds."""

from abc import ABC, abstractmethod
from itertools import groupby

from export.network.lowerings import Hidden, Scope
from export.network.projection import Sight
from export.network.views import Views, by_cluster
from luminanet.frozen import FrozenNet
from luminanet.schedule import planned
from luminanet.topology import Topology


class TwoPass(ABC):
    """One graph in the making; every method adds nodes and returns the name of its result.

    `plan` says who is visited when, who is heard and who is read out.
    """

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        self.graph = graph
        self.net = net
        self.sight = sight
        self.plan = planned(net.topology)

    @staticmethod
    def views(topology: Topology) -> Views:
        """What is seen together."""
        return by_cluster(topology)

    @abstractmethod
    def last_hidden(self) -> Hidden:
        """Adds all visits."""


class Levelwise(TwoPass):
    """A tensor for every stage: the clusters that are visited together are one."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.hidden: dict[str, str] = {}
        clusters = groupby(net.topology.clusters, lambda c: f"level{c.level}")
        self.levels = {level: [c.id for c in found] for level, found in clusters}


def level_of(stage: str) -> str:
    return stage.split("/")[0]
