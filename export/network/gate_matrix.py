"""The bus form, cluster by cluster: every visit has its own hidden state [B, H].

    message_i = hidden_i @ send_i
    signal_i  = sum over j of gate_ij / n * message_j
    hidden_i  = act(signal_i @ hear_i + drive_i)

The messages that a stage hears meet on one bus, where a matrix of gates mixes them: the
Communication Layer of the paper. Shape legend: that of frozen.py, and B batch, T targets and S
sources.
"""

import numpy as np

from export.network.lowerings import Hidden, Scope, shares
from export.network.projection import Sight
from export.network.two_pass import TwoPass
from luminanet.frozen import FrozenNet
from luminanet.schedule import Heard, Visit, sources_of


class Bus(TwoPass):
    """A tensor for every visit, and one bus for every stage."""

    def __init__(self, graph: Scope, net: FrozenNet, sight: Sight) -> None:
        super().__init__(graph, net, sight)
        self.hidden: dict[Visit, str] = {}
        self.messages: dict[Visit, str] = {}

    def last_hidden(self) -> Hidden:
        topology = self.net.topology
        for stage, heard in self.plan.stages.items():
            drives = self.listen(stage, {visit: hears for visit, hears in heard.items() if hears})
            for visit in heard:
                drive = drives.get(visit) or self.sight.row(visit.cluster)
                self.hidden[visit] = self.graph.activate(topology.activation, drive, str(visit))
        last = {visit.cluster: hidden for visit, hidden in self.hidden.items()}
        tensors = [last[cluster.id] for cluster in topology.clusters]
        parts = tuple((cluster.id, cluster.width) for cluster in topology.clusters)
        return Hidden(self.graph.concat(tensors, "readout/hidden"), parts)

    def listen(self, stage: str, heard: Heard) -> dict[Visit, str]:
        """Visit -> what drives it [B, H], for all visits of a stage that hear."""
        if not heard:
            return {}
        graph, clusters = self.graph, self.net.clusters
        drives = {}
        for visit, signal in self.signals(stage, heard).items():
            i = visit.cluster
            hear_DH = graph.constant(f"cluster{i}/hear", clusters[i].hear_DH)
            inputs = [signal, hear_DH, self.sight.each(i)]
            drives[visit] = graph.node("Gemm", inputs, f"{visit}/hear")
        return drives

    def signals(self, stage: str, heard: Heard) -> dict[Visit, str]:
        """Visit -> its received signal [B, D]."""
        sources = sorted(sources_of(heard))
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

    def message(self, visit: Visit) -> str:
        """hidden @ send [B, D]; added when it is first heard."""
        if visit not in self.messages:
            i = visit.cluster
            send_HD = self.graph.constant(f"cluster{i}/send", self.net.clusters[i].send_HD)
            inputs = [self.hidden[visit], send_HD]
            self.messages[visit] = self.graph.node("MatMul", inputs, f"{visit}/message")
        return self.messages[visit]
