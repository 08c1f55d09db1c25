"""FrozenNet -> ONNX: the two passes written out as one static graph.

    drive_i   = fields_i @ see_i + bias_i              sight.py: once, for both passes
    hidden_i  = act(signal_i @ hear_i + drive_i)       clusterwise.py, shared.py, block.py
    logits    = [hidden_1, hidden_2, ...] @ stacked readouts

Checked against luminanet/reference.py by verify.py. Shape legend: that of frozen.py, and B batch.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from export.block import Block
from export.clusterwise import Bus, Clusterwise, Concatenated, PerConnection
from export.forms import Form, Hidden, Scope
from export.graph import Graph
from export.inputs import NEWEST, image_fields, of_raw_pixels, text_fields
from export.levelwise import Levelwise
from export.shared import Shared
from export.sight import Fields, Sight
from luminanet.frozen import Array, FrozenNet, ImageHead, TextHead
from luminanet.reference import NORM_EPSILON
from luminanet.topology import ImageInput, TextInput

TWO_PASSES: Mapping[Form, type[Clusterwise] | type[Levelwise]] = {
    Form.CONNECTION: PerConnection,
    Form.CONCAT: Concatenated,
    Form.BUS: Bus,
    Form.SHARED: Shared,
    Form.BLOCK: Block,
}


def unroll(net: FrozenNet, form: Form = Form.BUS) -> onnx.ModelProto:
    """The graph of a network, with the interface that luminanet/manifest.py describes."""
    graph = Graph("luminanet")
    if isinstance(net.head, ImageHead):
        _unroll_image(graph, net, net.head, form)
    else:
        _unroll_text(graph, net, net.head, form)
    return graph.build()


def _unroll_image(graph: Graph, net: FrozenNet, head: ImageHead, form: Form) -> None:
    topology, net = net.topology, of_raw_pixels(net)
    assert isinstance(topology.input, ImageInput)
    patches = (patch for cluster in topology.clusters for patch in cluster.patches)
    tensors = image_fields(graph, topology.input, patches)
    seen = {c.id: [tensors[patch] for patch in c.patches] for c in topology.clusters}
    scope = Scope(graph, "images")
    hidden = _last_hidden(scope, net, form, seen)
    _readout(scope, net, hidden, graph.constant("readout/bias", head.bias_O), "logits")
    graph.output("logits", np.float32, ["batch", topology.outputs])


def _unroll_text(graph: Graph, net: FrozenNet, head: TextHead, form: Form) -> None:
    topology = net.topology
    assert isinstance(topology.input, TextInput)
    intervals = (interval for cluster in topology.clusters for interval in cluster.intervals)
    fields = text_fields(graph, head, topology.input, intervals)
    seen = {c.id: [fields[interval] for interval in c.intervals] for c in topology.clusters}
    scope = Scope(graph, "token_ids")
    hidden = _last_hidden(scope, net, form, seen)
    plus = fields[NEWEST] if head.output_VO is None else None
    out_BO = _readout(scope, net, hidden, plus, "readout")
    scale_O = scope.constant("readout/norm/scale", head.norm_out_scale_O)
    bias_O = scope.constant("readout/norm/bias", head.norm_out_bias_O)
    normed_BO = scope.node(
        "LayerNormalization", [out_BO, scale_O, bias_O], "readout/norm", epsilon=NORM_EPSILON
    )
    vocabulary_VO = scope.constant("output_layer", head.vocabulary_VO)
    scope.node("Gemm", [normed_BO, vocabulary_VO], "logits", transB=1)
    graph.output("logits", np.float32, ["batch", topology.input.vocab_size])


def _last_hidden(scope: Scope, net: FrozenNet, form: Form, seen: Fields) -> Hidden:
    return TWO_PASSES[form](scope, net, Sight(scope, net, seen)).last_hidden()


def _readout(scope: Scope, net: FrozenNet, hidden: Hidden, plus: str | None, name: str) -> str:
    """All hidden states through all readout matrices [B, O], plus a tensor that broadcasts."""
    outputs = net.topology.outputs

    def rows(id: int | None, width: int) -> Array:
        matrix = np.zeros((width, outputs), np.float32)
        if id is not None:
            readout_HO = net.clusters[id].readout_HO
            matrix[: len(readout_HO)] = readout_HO
        return matrix

    stacked = np.vstack([rows(*part) for part in hidden.parts])
    weights = scope.constant("readout/weights", stacked)
    return scope.node("Gemm", [hidden.tensor, weights, *([plus] if plus else [])], name)
