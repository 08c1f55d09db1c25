"""FrozenNet -> ONNX: the two passes written out as one static graph.

    drive_i   = fields_i @ see_i + bias_i              projection.py: once, for both passes
    hidden_i  = act(signal_i @ hear_i + drive_i)       gate_matrix.py, batched.py, fused.py
    logits    = [hidden_1, hidden_2, ...] @ stacked readouts

Checked against reference.py by checks/verify.py. Shape legend: that of frozen.py, and B batch.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from export.graph.declare import declare
from export.network.batched import Shared
from export.network.fused import Block
from export.network.gate_matrix import Bus
from export.network.image_inputs import image_views, of_raw_pixels
from export.network.lowerings import Form, Hidden, Scope
from export.network.projection import Sight
from export.network.text_inputs import TextInputs
from export.network.two_pass import TwoPass
from export.network.views import Seen
from luminanet import interface
from luminanet.fields import NEWEST, ImageInput, TextInput
from luminanet.frozen import Array, FrozenNet, ImageHead, TextHead
from luminanet.interface import IMAGES, LOGITS, TOKENS
from luminanet.reference import NORM_EPSILON

TWO_PASSES: Mapping[Form, type[TwoPass]] = {
    Form.BUS: Bus,
    Form.SHARED: Shared,
    Form.BLOCK: Block,
}


def unroll(net: FrozenNet, form: Form = Form.BUS) -> onnx.ModelProto:
    """The graph of a network, with the interface that luminanet/interface.py tells."""
    if isinstance(net.head, ImageHead):
        return _unroll_image(net, net.head, form)
    return _unroll_text(net, net.head, form)


def _unroll_image(net: FrozenNet, head: ImageHead, form: Form) -> onnx.ModelProto:
    graph = Scope("luminanet", IMAGES)
    declare(graph, interface.of(net).logits())
    topology, net = net.topology, of_raw_pixels(net)
    assert isinstance(topology.input, ImageInput)
    seen = image_views(graph, topology.input, TWO_PASSES[form].views(topology))
    hidden = _last_hidden(graph, net, form, seen)
    _readout(graph, net, hidden, graph.constant("readout/bias", head.bias_O), LOGITS)
    return graph.build()


def _unroll_text(net: FrozenNet, head: TextHead, form: Form) -> onnx.ModelProto:
    graph = Scope("luminanet", TOKENS)
    declare(graph, interface.of(net).logits())
    topology = net.topology
    assert isinstance(topology.input, TextInput)
    views = dict(TWO_PASSES[form].views(topology))
    if head.output_VO is None:
        views.setdefault(NEWEST, "newest")
    inputs = TextInputs(graph, net, views)
    seen = inputs.seen()
    hidden = _last_hidden(graph, net, form, seen)
    newest = seen[NEWEST] if head.output_VO is None else None
    is_plain = not topology.input.echoes and not topology.input.habits
    out_BO = _readout(graph, net, hidden, newest if is_plain else None, "readout")
    if topology.input.echoes:
        out_BO = inputs.echoed(out_BO)
    if topology.input.habits:
        out_BO = inputs.habitual(out_BO)
    if newest and not is_plain:
        out_BO = graph.node("Add", [out_BO, newest], "readout/newest")
    scale_O = graph.constant("readout/norm/scale", head.norm_out_scale_O)
    bias_O = graph.constant("readout/norm/bias", head.norm_out_bias_O)
    normed_BO = graph.node(
        "LayerNormalization", [out_BO, scale_O, bias_O], "readout/norm", epsilon=NORM_EPSILON
    )
    vocabulary_VO = graph.constant("output_layer", head.vocabulary_VO)
    graph.node("Gemm", [normed_BO, vocabulary_VO], LOGITS, transB=1)
    return graph.build()


def _last_hidden(graph: Scope, net: FrozenNet, form: Form, seen: Seen) -> Hidden:
    return TWO_PASSES[form](graph, net, Sight(graph, net, seen)).last_hidden()


def _readout(graph: Scope, net: FrozenNet, hidden: Hidden, plus: str | None, name: str) -> str:
    """All hidden states through all readout matrices [B, O + F], plus a tensor that broadcasts."""
    outputs = net.topology.readouts

    def rows(id: int | None, width: int) -> Array:
        matrix = np.zeros((width, outputs), np.float32)
        if id is not None:
            readout_HO = net.clusters[id].readout_HO
            matrix[: len(readout_HO)] = readout_HO
        return matrix

    stacked = np.vstack([rows(*part) for part in hidden.parts])
    weights = graph.constant("readout/weights", stacked)
    return graph.node("Gemm", [hidden.tensor, weights, *([plus] if plus else [])], name)
