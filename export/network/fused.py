"""The block form: the clusters of a level lie side by side, [B, W], so that a stage is two products
or one. Where clusters hear the same sum of messages, as on a bus with shared gates,

    sums_C     = said_W @ send_WC             gate / n inside
    hidden_W   = act(sums_C @ hear_CW + drive_W)

and otherwise one matrix leads from all that is said to all that is visited, with zeros where
nothing connects. Shape legend: that of frozen.py, and B batch, W widths side by side, T targets,
S sources, N distinct sums of messages, C = N * D.
"""

import numpy as np

from export.network.lowerings import Hidden, Scope, shares
from export.network.projection import Sight
from export.network.two_pass import Levelwise, level_of
from export.network.views import Views, by_level
from luminanet.cost.lowerings import worth_summing
from luminanet.frozen import FrozenNet
from luminanet.schedule import Heard
from luminanet.topology import Topology


class Block(Levelwise):
    """A few plain products a stage."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.pieces: dict[int, str] = {}
        self.drives: dict[str, str] = {}

    @staticmethod
    def views(topology: Topology) -> Views:
        return by_level(topology)

    def last_hidden(self) -> Hidden:
        for stage, heard in self.plan.stages.items():
            drive = self.drive(stage, heard)
            if any(heard.values()):
                drive = self.hear(stage, heard, drive)
            activation = self.net.topology.activation
            self.hidden[stage] = self.graph.activate(activation, drive, stage)
        read = [s for s, heard in self.plan.stages.items() if self.plan.last.intersection(heard)]
        parts = tuple(
            (visit.cluster if visit in self.plan.last else None, self.plan.width(visit))
            for stage in read
            for visit in self.plan.stages[stage]
        )
        tensors = [self.hidden[stage] for stage in read]
        return Hidden(self.graph.concat(tensors, "readout/hidden"), parts)

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
        spoken = self.plan.heard_stages(heard)
        sources = [visit for source in spoken for visit in self.plan.stages[source]]
        said = self.graph.concat([self.hidden[s] for s in spoken], f"{stage}/heard")
        gates_TS = shares(self.net, heard, list(heard), sources)
        sums_NS, sum_T = np.unique(gates_TS, axis=0, return_inverse=True)
        # Which sum each target hears, as a row of ones and zeros; numpy 2.0.0 gives a column.
        own_TN = np.eye(len(sums_NS))[sum_T.reshape(-1)]
        send = (self.net.clusters[visit.cluster].send_HD for visit in sources)
        hear = (self.net.clusters[visit.cluster].hear_DH for visit in heard)
        # A source sends to every sum, its gate there times send: N copies side by side.
        send_WC = np.vstack(
            [np.kron(gates_N, m) for gates_N, m in zip(sums_NS.T, send, strict=True)]
        )
        # A target hears its own sum alone: hear in the rows of that one, zeros in all others.
        hear_CW = np.hstack(
            [np.kron(own_N[:, None], m) for own_N, m in zip(own_TN, hear, strict=True)]
        )
        if worth_summing(len(hear_CW), len(send_WC), hear_CW.shape[1]):
            weights = self.graph.constant(f"{stage}/send/weights", send_WC.astype(np.float32))
            said = self.graph.node("MatMul", [said, weights], f"{stage}/sums")
            matrix = hear_CW
        else:
            matrix = send_WC @ hear_CW
        weights = self.graph.constant(f"{stage}/hear/weights", matrix.astype(np.float32))
        return self.graph.node("Gemm", [said, weights, drive], f"{stage}/hear")
