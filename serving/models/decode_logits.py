"""A decode graph -> the same graph, which gives its logits [batch, vocab] as well.

They are those of its first step, or of its last where the caller counts the steps: with one step
the same. So texts whose tokens are not drawn inside the graph (engines/opened.py) are computed by
the very network, in the very session, that computes the others: another one would keep its weights
twice more. What comes in has been checked (graph_guard.py).
"""

from typing import Any

import numpy as np

from luminanet.errors import ArtifactError
from luminanet.interface import LOGITS, STEPS
from serving.models.graph_guard import LOOP

BEFORE, NOTHING = "logits/before", "logits/nothing"


def with_logits(data: bytes, vocab_size: int, where: str) -> bytes:
    """Raises ArtifactError when no step of the graph has logits."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(data)
    graph, number = model.graph, onnx.TensorProto.FLOAT
    loops = [node for node in graph.node if node.op_type == LOOP and node.input[0] == STEPS]
    if not loops:
        graph.node.append(helper.make_node("Identity", [_logits(graph, where)], [LOGITS]))
    for loop in loops[:1]:
        (body,) = (attribute.g for attribute in loop.attribute if attribute.name == "body")
        states = len(loop.input) - 2  # the first two are how often, and whether at all
        body.input.append(helper.make_tensor_value_info(BEFORE, number, None))
        found = helper.make_tensor_value_info(_logits(body, where), number, None)
        body.output.insert(1 + states, found)
        graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1), np.float32), NOTHING))
        loop.input.append(NOTHING)
        loop.output.insert(states, LOGITS)
    graph.output.append(helper.make_tensor_value_info(LOGITS, number, [None, vocab_size]))
    return bytes(model.SerializeToString())


def _logits(graph: Any, where: str) -> str:
    """What the first step in a graph takes the softmax of."""
    for node in graph.node:
        if node.op_type == "LogSoftmax":
            return str(node.input[0])
    raise ArtifactError(
        f"{where} draws no tokens from logits, as its manifest asks for: freeze the model again"
    )
