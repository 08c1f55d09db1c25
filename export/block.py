"""The block form: the clusters of a level lie side by side, [B, W], and one matrix leads from all
that a stage hears to all that it visits, with zeros where nothing connects.

Shape legend: that of frozen.py, and B batch, W widths side by side.
"""

import numpy as np

from export.forms import Hidden, Scope, share
from export.levelwise import Levelwise, level_of
from export.sight import Sight
from luminanet.frozen import Array, FrozenNet
from luminanet.visits import Heard, Visit


class Block(Levelwise):
    """One matrix from everything a stage hears to everything it visits."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.pieces: dict[int, str] = {}
        self.drives: dict[str, str] = {}

    def last_hidden(self) -> Hidden:
        for stage, heard in self.stages.items():
            drive = self.drive(stage, heard)
            if any(heard.values()):
                drive = self.hear(stage, heard, drive)
            activation = self.net.topology.activation
            self.hidden[stage] = self.graph.activate(activation, drive, stage)
        read = [s for s, heard in self.stages.items() if self.last.intersection(heard)]
        parts = tuple(
            (visit.cluster if visit in self.last else None, self.width(visit))
            for stage in read
            for visit in self.stages[stage]
        )
        tensors = [self.hidden[stage] for stage in read]
        return Hidden(self.graph.concat(tensors, "readout/hidden"), parts)

    def width(self, visit: Visit) -> int:
        return self.net.topology.cluster(visit.cluster).width

    def drive(self, stage: str, heard: Heard) -> str:
        """The drives of the clusters of a stage [B, W]."""
        level = level_of(stage)
        if level not in self.drives:
            self.drives[level] = self.sight.wide(level, self.levels[level])
        ids = [visit.cluster for visit in heard]
        if ids == self.levels[level]:
            return self.drives[level]
        if ids[0] not in self.pieces:
            names = [f"cluster{i}/see" for i in self.levels[level]]
            sizes = [self.net.topology.cluster(i).width for i in self.levels[level]]
            cut = self.graph.cut(self.drives[level], names, sizes)
            self.pieces |= dict(zip(self.levels[level], cut, strict=True))
        return self.graph.concat([self.pieces[i] for i in ids], f"{stage}/see")

    def hear(self, stage: str, heard: Heard, drive: str) -> str:
        """`drive` plus what is heard [B, W]."""
        spoken = self.heard_stages(heard)
        sources = [visit for source in spoken for visit in self.stages[source]]
        matrix_WW = np.vstack(
            [
                np.hstack([self.block(source, target, heard) for target in heard])
                for source in sources
            ]
        )
        matrix = self.graph.constant(f"{stage}/hear/weights", matrix_WW.astype(np.float32))
        together = self.graph.concat([self.hidden[s] for s in spoken], f"{stage}/heard")
        return self.graph.node("Gemm", [together, matrix, drive], f"{stage}/hear")

    def block(self, source: Visit, target: Visit, heard: Heard) -> Array:
        """gate / n * send @ hear, or zeros [H of the source, H of the target]."""
        if source not in heard[target]:
            return np.zeros((self.width(source), self.width(target)), np.float32)
        send_HD = self.net.clusters[source.cluster].send_HD
        hear_DH = self.net.clusters[target.cluster].hear_DH
        heard_DH = share(self.net, source.cluster, target.cluster) * hear_DH
        product: Array = send_HD.astype(np.float64) @ heard_DH
        return product
