"""The shared form: the clusters of a level are one tensor, clusters first, [K, B, H].

    message_SBD = hidden_SBH @ send_SHD                     one batched product
    signal_TBD  = gates_TS @ message_SBD                    one product
    hidden_TBH  = act(signal_TBD @ hear_TDH + drive_TBH)    one batched product

A batched product needs clusters of one width: narrower ones are filled up with zeros, which every
activation keeps. Shape legend: that of frozen.py, and B batch, K clusters, T targets, S sources.
"""

from collections.abc import Sequence

import numpy as np

from export.network.lowerings import Hidden, Scope, shares
from export.network.projection import Sight, widen
from export.network.two_pass import Levelwise, level_of
from luminanet.frozen import FrozenNet
from luminanet.schedule import Heard, Visit


class Shared(Levelwise):
    """Batched products over the clusters of a stage."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.drives: dict[str, str] = {}
        self.order: dict[str, list[int]] = {}
        self.messages: dict[str, tuple[str, list[Visit]]] = {}

    def last_hidden(self) -> Hidden:
        tensors, parts = [], []
        for stage, heard in self.plan.stages.items():
            self.visit(stage, heard)
        for stage in self.plan.stages:
            read = [visit for visit in self.visits(stage) if visit in self.plan.last]
            if read:
                hidden_KBH = self.pick(stage, read, f"{stage}/last")
                inputs = [
                    self.graph.node("Transpose", [hidden_KBH], f"{stage}/rows", perm=(1, 0, 2))
                ]
                tensors.append(self.graph.node("Flatten", inputs, f"{stage}/readout", axis=1))
                parts += [(visit.cluster, self.width(level_of(stage))) for visit in read]
        return Hidden(self.graph.concat(tensors, "readout/hidden"), tuple(parts))

    def visit(self, stage: str, heard: Heard) -> None:
        """Adds the hidden states [K, B, H] of a stage."""
        level = level_of(stage)
        if level not in self.drives:
            found = self.sight.stack(level, self.levels[level], self.width(level))
            self.drives[level], self.order[level] = found
        visits = self.visits(stage)
        drive = self.drives[level]
        if len(visits) < len(self.order[level]):
            at = [self.order[level].index(visit.cluster) for visit in visits]
            drive = self.gather(drive, at, f"{stage}/see")
        if any(heard.values()):
            drive = self.graph.node("Add", [self.hear(stage, heard), drive], f"{stage}/drive")
        activation = self.net.topology.activation
        self.hidden[stage] = self.graph.activate(activation, drive, stage)

    def visits(self, stage: str) -> list[Visit]:
        """The visits of a stage in the order of its tensors."""
        found = {visit.cluster: visit for visit in self.plan.stages[stage]}
        return [found[i] for i in self.order[level_of(stage)] if i in found]

    def hear(self, stage: str, heard: Heard) -> str:
        """signal @ hear [T, B, H]."""
        targets, graph = self.visits(stage), self.graph
        spoken = [self.message(source) for source in self.plan.heard_stages(heard)]
        sources = [visit for _, visits in spoken for visit in visits]
        tensors = [tensor for tensor, _ in spoken]
        bus_SBD = graph.concat(tensors, f"{stage}/messages", axis=0)
        gates_TS = shares(self.net, heard, targets, sources).astype(np.float32)
        gates = graph.constant(f"{stage}/gates", gates_TS)
        flat = graph.node("Flatten", [bus_SBD], f"{stage}/bus", axis=1)
        mixed = graph.node("MatMul", [gates, flat], f"{stage}/mixed")
        shape = np.array([len(targets), -1, self.net.topology.channel])
        inputs = [mixed, graph.constant(f"{stage}/signals/shape", shape)]
        signals_TBD = graph.node("Reshape", inputs, f"{stage}/signals")
        width = self.width(level_of(stage))
        hear_TDH = np.stack(
            [widen(self.net.clusters[visit.cluster].hear_DH, width) for visit in targets]
        )
        hear = graph.constant(self.constant_of(stage, "hear", targets), hear_TDH)
        return graph.node("MatMul", [signals_TBD, hear], f"{stage}/hear")

    def message(self, stage: str) -> tuple[str, list[Visit]]:
        """hidden @ send [S, B, D] of the visits of a stage that are heard, and their order."""
        if stage not in self.messages:
            speaking = [visit for visit in self.visits(stage) if visit in self.plan.spoken]
            hidden = self.pick(stage, speaking, f"{stage}/speaking")
            width = self.width(level_of(stage))
            send_SHD = np.stack(
                [widen(self.net.clusters[v.cluster].send_HD.T, width).T for v in speaking]
            )
            send = self.graph.constant(self.constant_of(stage, "send", speaking), send_SHD)
            tensor = self.graph.node("MatMul", [hidden, send], f"{stage}/message")
            self.messages[stage] = tensor, speaking
        return self.messages[stage]

    def pick(self, stage: str, visits: Sequence[Visit], name: str) -> str:
        """Some of the hidden states of a stage."""
        everyone = self.visits(stage)
        if len(visits) == len(everyone):
            return self.hidden[stage]
        return self.gather(self.hidden[stage], [everyone.index(v) for v in visits], name)

    def gather(self, tensor: str, at: Sequence[int], name: str) -> str:
        index = self.graph.constant(f"{name}/at", np.array(at))
        return self.graph.node("Gather", [tensor, index], name, axis=0)

    def width(self, level: str) -> int:
        return max(self.net.topology.cluster(i).width for i in self.levels[level])

    def constant_of(self, stage: str, kind: str, visits: Sequence[Visit]) -> str:
        """Both passes share a constant when they visit the same clusters."""
        level = level_of(stage)
        is_all = len(visits) == len(self.levels[level])
        return f"{level}/{kind}" if is_all else f"{stage}/{kind}/weights"
