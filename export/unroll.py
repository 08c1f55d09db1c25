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
from luminanet.topology import ImageInput, Interval, TextInput

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
    hidden = _last_hidden(scope, net, form, seen, {})
    _readout(scope, net, hidden, graph.constant("readout/bias", head.bias_O), "logits")
    graph.output("logits", np.float32, ["batch", topology.outputs])


def _unroll_text(graph: Graph, net: FrozenNet, head: TextHead, form: Form) -> None:
    topology = net.topology
    assert isinstance(topology.input, TextInput)
    intervals = (interval for cluster in topology.clusters for interval in cluster.intervals)
    fields = text_fields(graph, head, topology.input, intervals)
    logits_from(graph, net, form, fields, "token_ids")
    graph.output("logits", np.float32, ["batch", topology.input.vocab_size])


def logits_from(
    graph: Graph,
    net: FrozenNet,
    form: Form,
    fields: Mapping[Interval, str],
    batch: str,
    *,
    drives: Mapping[int, str] | None = None,
    prefix: str = "",
) -> str:
    """Everything of a text network behind its inputs; returns the name of the logits [B, V].

    `fields` names the (pooled) embeddings [B, E] of NEWEST and of what clusters see; a cluster in
    `drives` has its fields @ see + bias there already, [B, H]. `batch` is a tensor whose first
    size is B. Nodes, not constants, are named with `prefix`, so that several steps share weights.
    """
    head, topology, drives = net.head, net.topology, drives or {}
    assert isinstance(head, TextHead)
    scope = Scope(graph, batch, prefix)
    seen: Fields = {
        c.id: [] if c.id in drives else [fields[interval] for interval in c.intervals]
        for c in topology.clusters
    }
    hidden = _last_hidden(scope, net, form, seen, drives)
    out_BE = _readout(scope, net, hidden, fields[NEWEST], "readout")
    scale_E = scope.constant("readout/norm/scale", head.norm_out_scale_E)
    bias_E = scope.constant("readout/norm/bias", head.norm_out_bias_E)
    normed_BE = scope.node(
        "LayerNormalization", [out_BE, scale_E, bias_E], "readout/norm", epsilon=NORM_EPSILON
    )
    embed_VE = scope.constant("output_layer", head.embed_VE)
    return scope.node("Gemm", [normed_BE, embed_VE], "logits", transB=1)


def _last_hidden(
    scope: Scope, net: FrozenNet, form: Form, seen: Fields, drives: Mapping[int, str]
) -> Hidden:
    return TWO_PASSES[form](scope, net, Sight(scope, net, seen, drives)).last_hidden()


def _readout(scope: Scope, net: FrozenNet, hidden: Hidden, plus: str, name: str) -> str:
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
    return scope.node("Gemm", [hidden.tensor, weights, plus], name)
