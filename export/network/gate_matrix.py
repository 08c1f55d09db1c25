"""The two passes cluster by cluster: every visit has its own hidden state [B, H].

    message_i = hidden_i @ send_i
    signal_i  = sum over j of gate_ij / n * message_j
    hidden_i  = act(signal_i @ hear_i + drive_i)

The forms differ in the nodes between hidden states. What both passes of a cluster hear alike is
added to its drive once. Shape legend: that of frozen.py, and B batch, T targets and S sources.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from export.network.lowerings import Hidden, Scope, share, shares
from export.network.projection import Sight
from export.network.two_pass import TwoPass
from luminanet.frozen import Array, FrozenNet
from luminanet.schedule import Heard, Visit


class Clusterwise(TwoPass):
    """A tensor for every visit."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.hidden: dict[Visit, str] = {}
        self.messages: dict[Visit, str] = {}

    def last_hidden(self) -> Hidden:
        topology = self.net.topology
        for stage, heard in self.stages.items():
            drives = self.listen(stage, {visit: hears for visit, hears in heard.items() if hears})
            for visit in heard:
                drive = drives.get(visit) or self.sight.row(visit.cluster)
                self.hidden[visit] = self.graph.activate(topology.activation, drive, str(visit))
        last = {visit.cluster: hidden for visit, hidden in self.hidden.items()}
        tensors = [last[cluster.id] for cluster in topology.clusters]
        parts = tuple((cluster.id, cluster.width) for cluster in topology.clusters)
        return Hidden(self.graph.concat(tensors, "readout/hidden"), parts)

    @abstractmethod
    def listen(self, stage: str, heard: Heard) -> dict[Visit, str]:
        """Visit -> what drives it [B, H], for all visits of a stage that hear."""

    def message(self, visit: Visit) -> str:
        """hidden @ send [B, D]; added when it is first heard."""
        if visit not in self.messages:
            send_HD = self.graph.constant(
                f"cluster{visit.cluster}/send", self.net.clusters[visit.cluster].send_HD
            )
            inputs = [self.hidden[visit], send_HD]
            self.messages[visit] = self.graph.node("MatMul", inputs, f"{visit}/message")
        return self.messages[visit]

    def hear(self, id: int) -> str:
        return self.graph.constant(f"cluster{id}/hear", self.net.clusters[id].hear_DH)


class Bus(Clusterwise):
    """The Communication Layer of the paper: a matrix of gates mixes all messages of a stage."""

    def listen(self, stage: str, heard: Heard) -> dict[Visit, str]:
        if not heard:
            return {}
        signals = self.signals(stage, heard)
        return {
            visit: self.graph.node(
                "Gemm",
                [signal, self.hear(visit.cluster), self.sight.each(visit.cluster)],
                f"{visit}/hear",
            )
            for visit, signal in signals.items()
        }

    def signals(self, stage: str, heard: Heard) -> dict[Visit, str]:
        """Visit -> its received signal [B, D]."""
        sources = sorted({source for hears in heard.values() for source in hears})
        gates_TS = shares(self.net, heard, list(heard), sources).astype(np.float32)
        gates = self.graph.constant(f"{stage}/gates", gates_TS)
        messages = [self.message(source) for source in sources]
        side_by_side = self.graph.concat(messages, f"{stage}/messages")
        shape = np.array([-1, len(sources), self.net.topology.channel])
        inputs = [side_by_side, self.graph.constant(f"{stage}/bus_shape", shape)]
        bus_BSD = self.graph.node("Reshape", inputs, f"{stage}/bus")
        signals_BTD = self.graph.node("MatMul", [gates, bus_BSD], f"{stage}/signals")
        names = self.graph.split(signals_BTD, [f"{visit}/signal" for visit in heard])
        return dict(zip(heard, names, strict=True))


class Concatenated(Clusterwise):
    """One Gemm per visit: hidden states or messages side by side, matrices stacked. What is heard
    is added to the drive; what both passes hear is added once, first.

    A source is heard by its hidden state, with send @ hear as one matrix, when that takes fewer
    multiplications than sending a message first.
    """

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self._shared: dict[str, str] = {}

    def listen(self, stage: str, heard: Heard) -> dict[Visit, str]:  # noqa: ARG002
        return {visit: self.drive(visit, hears) for visit, hears in heard.items()}

    def drive(self, visit: Visit, hears: Sequence[Visit]) -> str:
        other_pass = Visit(visit.cluster, 3 - visit.number)
        other = self.heard.get(other_pass, ())
        both = tuple(source for source in hears if source in other)
        alone = tuple(source for source in hears if source not in other)
        drive = self.sight.each(visit.cluster)
        if both:
            drive = self.both(visit.cluster, both, drive)
        return self.add(visit, alone, drive, str(visit)) if alone else drive

    def both(self, id: int, hears: Sequence[Visit], drive: str) -> str:
        """The drive and what both passes hear [B, H]."""
        name = f"cluster{id}/both"
        if name not in self._shared:
            self._shared[name] = self.add(Visit(id, 1), hears, drive, name)
        return self._shared[name]

    def add(self, visit: Visit, hears: Sequence[Visit], drive: str, name: str) -> str:
        """`drive` plus what is heard [B, H]; nodes start with `name`."""
        tensors = [self.speech(source) for source in hears]
        matrices = [self.matrix(visit, source) for source in hears]
        stacked = np.vstack(matrices).astype(np.float32)
        matrix = self.graph.constant(f"{name}/hear/weights", stacked)
        together = self.graph.concat(tensors, f"{name}/heard")
        return self.graph.node("Gemm", [together, matrix, drive], f"{name}/hear")

    def speech(self, source: Visit) -> str:
        return self.hidden[source] if self.is_folded(source) else self.message(source)

    def matrix(self, visit: Visit, source: Visit) -> Array:
        """gate / n * hear [D, H], or with send [H of the source, H]."""
        gate = share(self.net, source.cluster, visit.cluster)
        matrix = gate * self.net.clusters[visit.cluster].hear_DH
        if self.is_folded(source):
            send_HD = self.net.clusters[source.cluster].send_HD
            matrix = send_HD.astype(np.float64) @ matrix
        return matrix

    def is_folded(self, source: Visit) -> bool:
        width, channel = self.net.topology.cluster(source.cluster).width, self.net.topology.channel
        listening = sum(self.widths_listening(source))
        return width * listening <= channel * (width + listening)

    def widths_listening(self, source: Visit) -> Iterable[int]:
        """The widths of all Gemms that hear `source`; what both passes hear counts once."""
        targets = {visit.cluster for visit, hears in self.heard.items() if source in hears}
        return (self.net.topology.cluster(i).width for i in targets)
