"""The two passes in the making: what every form has in common, whatever nodes it adds."""

from abc import ABC, abstractmethod

from export.network.lowerings import Hidden, Scope
from export.network.projection import Sight
from export.network.views import Views, by_cluster
from luminanet.frozen import FrozenNet
from luminanet.schedule import schedule, stages
from luminanet.topology import Topology


class TwoPass(ABC):
    """One graph in the making; every method adds nodes and returns the name of its result."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        self.graph = graph
        self.net = net
        self.sight = sight
        self.heard = schedule(net.topology)
        self.stages = stages(net.topology)

    @staticmethod
    def views(topology: Topology) -> Views:
        """What is seen together."""
        return by_cluster(topology)

    @abstractmethod
    def last_hidden(self) -> Hidden:
        """Adds all visits."""
