"""FrozenNet -> ONNX: the two passes written out as one static graph.

    drive_i   = fields_i @ see_i + bias_i              once, for both passes
    signal_i  = sum over j of gate_ij / n * message_j  all i of a level and pass in one product
    hidden_i  = act(signal_i @ hear_i + drive_i)
    message_i = hidden_i @ send_i
    logits    = [hidden_1, hidden_2, ...] @ stacked readouts

The messages that a level hears meet on one bus, where a matrix of gates mixes them: the
Communication Layer of the paper. Checked against luminanet/reference.py by verify.py.
Shape legend: that of frozen.py, and B batch, T targets and S sources of a bus.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from export.graph import Graph
from export.inputs import NEWEST, image_fields, text_fields
from luminanet.frozen import FrozenNet, ImageHead, TextHead
from luminanet.reference import NORM_EPSILON
from luminanet.topology import Activation, Connection, ImageInput, TextInput
from luminanet.visits import Heard, Visit, stages

OPS = {Activation.GELU: "Gelu", Activation.RELU: "Relu", Activation.TANH: "Tanh"}


def unroll(net: FrozenNet) -> onnx.ModelProto:
    """The graph of a network, with the interface that luminanet/manifest.py describes."""
    if isinstance(net.head, ImageHead):
        return _unroll_image(net, net.head)
    return _unroll_text(net, net.head)


def _unroll_image(net: FrozenNet, head: ImageHead) -> onnx.ModelProto:
    graph, topology = Graph("luminanet"), net.topology
    assert isinstance(topology.input, ImageInput)
    patches = (patch for cluster in topology.clusters for patch in cluster.patches)
    tensors = image_fields(graph, head, topology.input, patches)
    seen = {c.id: [tensors[patch] for patch in c.patches] for c in topology.clusters}
    bias_O = graph.constant("readout/bias", head.bias_O)
    hidden = _TwoPass(graph, net, seen, "images").last_hidden()
    _readout(graph, net, hidden, bias_O, "logits")
    graph.output("logits", np.float32, ["batch", topology.outputs])
    return graph.build()


def _unroll_text(net: FrozenNet, head: TextHead) -> onnx.ModelProto:
    graph, topology = Graph("luminanet"), net.topology
    assert isinstance(topology.input, TextInput)
    intervals = (interval for cluster in topology.clusters for interval in cluster.intervals)
    tensors = text_fields(graph, head, topology.input, intervals)
    seen = {c.id: [tensors[interval] for interval in c.intervals] for c in topology.clusters}
    hidden = _TwoPass(graph, net, seen, "token_ids").last_hidden()
    out_BE = _readout(graph, net, hidden, tensors[NEWEST], "readout")
    scale_E = graph.constant("readout/norm/scale", head.norm_out_scale_E)
    bias_E = graph.constant("readout/norm/bias", head.norm_out_bias_E)
    normed_BE = graph.node(
        "LayerNormalization", [out_BE, scale_E, bias_E], "readout/norm", epsilon=NORM_EPSILON
    )
    embed_VE = graph.constant("output_layer", head.embed_VE)
    graph.node("Gemm", [normed_BE, embed_VE], "logits", transB=1)
    graph.output("logits", np.float32, ["batch", topology.input.vocab_size])
    return graph.build()


def _readout(graph: Graph, net: FrozenNet, hidden: list[str], plus: str, name: str) -> str:
    """All hidden states through all readout matrices [B, O], plus a tensor that broadcasts."""
    stacked = np.vstack([net.clusters[c.id].readout_HO for c in net.topology.clusters])
    weights = graph.constant("readout/weights", stacked)
    everything = graph.concat(hidden, "readout/hidden")
    return graph.node("Gemm", [everything, weights, plus], name)


class _TwoPass:
    """The visits in the making; methods add nodes and return the names of their results.

    `seen` maps cluster ids to fields [B, ..]; `batch` is any tensor whose rows are the batch.
    """

    def __init__(
        self, graph: Graph, net: FrozenNet, seen: Mapping[int, Sequence[str]], batch: str
    ) -> None:
        self.graph = graph
        self.net = net
        self.batch = batch
        self.drives = {c.id: self.drive(c.id, seen[c.id]) for c in net.topology.clusters}
        self.hidden: dict[Visit, str] = {}
        self.messages: dict[Visit, str] = {}

    def last_hidden(self) -> list[str]:
        """Adds all visits; returns the last hidden state [B, H] of each cluster, in order."""
        for stage, heard in stages(self.net.topology).items():
            signals = self.bus(stage, {visit: hears for visit, hears in heard.items() if hears})
            for visit in heard:
                self.hidden[visit] = self.visit(visit, signals.get(visit))
        last = {visit.cluster: hidden for visit, hidden in self.hidden.items()}
        return [last[cluster.id] for cluster in self.net.topology.clusters]

    def drive(self, id: int, fields: Sequence[str]) -> str:
        """What cluster `id` sees, for both passes [B, H]; its bias alone [H] if that is nothing."""
        weights, name = self.net.clusters[id], f"cluster{id}/see"
        bias_H = self.graph.constant(f"{name}/bias", weights.bias_H)
        if not fields:
            return bias_H
        fields_BI = self.graph.concat(fields, f"cluster{id}/fields")
        see_IH = self.graph.constant(f"{name}/weights", weights.see_IH)
        return self.graph.node("Gemm", [fields_BI, see_IH, bias_H], name)

    def bus(self, stage: str, heard: Heard) -> dict[Visit, str]:
        """Visit -> its received signal [B, D], for all visits of a stage that hear."""
        if not heard:
            return {}
        sources = sorted({source for hears in heard.values() for source in hears})
        gates_TS = np.zeros((len(heard), len(sources)), np.float32)
        for row, (visit, hears) in zip(gates_TS, heard.items(), strict=True):
            row[[sources.index(source) for source in hears]] = self.shares(visit, hears)
        gates = self.graph.constant(f"{stage}/gates", gates_TS)
        messages = [self.message(source) for source in sources]
        side_by_side = self.graph.concat(messages, f"{stage}/messages")
        shape = self.graph.constant(
            f"{stage}/bus_shape", np.array([-1, len(sources), self.net.topology.channel])
        )
        bus_BSD = self.graph.node("Reshape", [side_by_side, shape], f"{stage}/bus")
        signals_BTD = self.graph.node("MatMul", [gates, bus_BSD], f"{stage}/signals")
        signals = {visit: f"{visit}/signal" for visit in heard}
        self.graph.split(signals_BTD, list(signals.values()))
        return signals

    def shares(self, visit: Visit, hears: Iterable[Visit]) -> list[float]:
        """gate / n for each message heard; n counts all sources of the cluster in both passes."""
        n = len(self.net.topology.sources[visit.cluster])
        links = (Connection(source=heard.cluster, target=visit.cluster) for heard in hears)
        return [self.net.gates[link] / n for link in links]

    def message(self, visit: Visit) -> str:
        """hidden @ send [B, D]; added when it is first heard."""
        if visit not in self.messages:
            send_HD = self.graph.constant(
                f"cluster{visit.cluster}/send", self.net.clusters[visit.cluster].send_HD
            )
            inputs = [self.hidden[visit], send_HD]
            self.messages[visit] = self.graph.node("MatMul", inputs, f"{visit}/message")
        return self.messages[visit]

    def visit(self, visit: Visit, signal: str | None) -> str:
        """The hidden state [B, H]."""
        drive, weights = self.drives[visit.cluster], self.net.clusters[visit.cluster]
        if signal:
            hear_DH = self.graph.constant(f"cluster{visit.cluster}/hear", weights.hear_DH)
            drive = self.graph.node("Gemm", [signal, hear_DH, drive], f"{visit}/hear")
        elif not weights.see_IH.size:
            drive = self.every_row(drive, f"{visit}/alone")
        return self.activate(drive, str(visit))

    def every_row(self, bias_H: str, name: str) -> str:
        """[H] -> [B, H]: a cluster that neither sees nor hears has its bias alone."""
        rows = self.graph.node("Shape", [self.batch], f"{name}/rows", start=0, end=1)
        width = self.graph.node("Shape", [bias_H], f"{name}/width")
        shape = self.graph.node("Concat", [rows, width], f"{name}/shape", axis=0)
        return self.graph.node("Expand", [bias_H, shape], name)

    def activate(self, drive: str, name: str) -> str:
        activation = self.net.topology.activation
        if activation is Activation.SILU:
            gate = self.graph.node("Sigmoid", [drive], f"{name}/gate")
            return self.graph.node("Mul", [drive, gate], f"{name}/hidden")
        return self.graph.node(OPS[activation], [drive], f"{name}/hidden")
