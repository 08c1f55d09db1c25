"""The two passes level by level: the clusters that are visited together are one tensor.

What the forms of batched.py and fused.py have in common: who is visited when, who is heard, and
who is read out. Shape legend: that of frozen.py, and B batch.
"""

from itertools import groupby

from export.network.lowerings import Scope
from export.network.projection import Sight
from export.network.two_pass import TwoPass
from luminanet.frozen import FrozenNet
from luminanet.schedule import Heard


class Levelwise(TwoPass):
    """A tensor for every stage."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.spoken = {source for hears in self.heard.values() for source in hears}
        self.last = set({visit.cluster: visit for visit in self.heard}.values())
        self.hidden: dict[str, str] = {}
        clusters = groupby(net.topology.clusters, lambda c: f"level{c.level}")
        self.levels = {level: [c.id for c in found] for level, found in clusters}

    def heard_stages(self, heard: Heard) -> list[str]:
        """The stages with a visit that is heard."""
        sources = {source for hears in heard.values() for source in hears}
        return [stage for stage, visits in self.stages.items() if sources.intersection(visits)]


def level_of(stage: str) -> str:
    return stage.split("/")[0]
