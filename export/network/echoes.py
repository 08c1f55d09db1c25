"""What echoes and habits add to the output, as nodes (luminanet.frozen.TextHead).

All echoes are weights over the tokens that any of them sees, summed before a single product:

    place_XF     1 / sqrt(length) at the lags of an interval, 1 at the token that is recalled
    heard_X      sum over echoes of  gate_f * salience_f(token x) * place_xf
    out_O        += heard_X @ vocabulary_XO of these tokens

Shape legend: that of frozen.py, and B batch, W window, R recalls, X the newest tokens
as far back as an interval reaches, then what is recalled.
"""

import numpy as np

from export.graph.builder import Graph
from export.network.inputs import pooling
from export.network.recall import Recalled
from luminanet.fields import Interval, Recall, TextInput
from luminanet.frozen import HASH, Array, FrozenNet, TextHead
from luminanet.reference import saliences


def add_echoes(graph: Graph, net: FrozenNet, recalled: Recalled, read: str) -> str:
    """[B, O] of the readouts [B, O + F] of a text network.

    NO_TOKEN is the last row of either table, of which that of saliences has one more: zeros.
    """
    topology, head = net.topology, net.head
    shape, outputs = topology.input, topology.outputs
    assert isinstance(shape, TextInput)
    assert isinstance(head, TextHead)
    vocabulary = graph.constant("output_layer", head.vocabulary_VO)
    table = graph.constant(
        "echo/table", np.pad(saliences(head), ((0, 1), (0, 0))).astype(np.float32)
    )
    tokens_BX, places_XF = _heard(shape, recalled)
    rows_BXO = graph.node("Gather", [vocabulary, tokens_BX], "echo/rows")
    salience_BXF = graph.node("Gather", [table, tokens_BX], "echo/salience")
    places = graph.constant("echo/places", places_XF)
    weights_BXF = graph.node("Mul", [salience_BXF, places], "echo/weights")
    sizes = graph.constant("readout/sizes", np.array([outputs, len(shape.echoes)]))
    graph.nodes("Split", [read, sizes], "readout/split", ["readout/own", "echo/gates"], axis=1)
    end = graph.constant("echo/end", np.array([2]))
    gates_BF1 = graph.node("Unsqueeze", ["echo/gates", end], "echo/gates_column")
    heard_BX1 = graph.node("MatMul", [weights_BXF, gates_BF1], "echo/heard")
    row = graph.constant("echo/row", np.array([0, 1, -1]))
    heard_B1X = graph.node("Reshape", [heard_BX1, row], "echo/heard_row")
    sum_B1O = graph.node("MatMul", [heard_B1X, rows_BXO], "echo/sum")
    middle = graph.constant("echo/middle", np.array([1]))
    sum_BO = graph.node("Squeeze", [sum_B1O, middle], "echo")
    return graph.node("Add", ["readout/own", sum_BO], "readout/all")


def add_habits(graph: Graph, head: TextHead, shape: TextInput, out_BO: str) -> str:
    """[B, O] with what tends to follow the newest two tokens."""
    assert head.habit_PE is not None
    assert head.habit_EO is not None
    at = graph.constant("habit/at", np.array([shape.window - 2, shape.window - 1]))
    newest_B2 = graph.node("Gather", ["token_ids", at], "habit/newest", axis=1)
    factors = graph.constant("habit/hash", np.array(HASH))
    parts_B2 = graph.node("Mul", [newest_B2, factors], "habit/parts")
    axis = graph.constant("habit/axis", np.array([1]))
    sum_B = graph.node("ReduceSum", [parts_B2, axis], "habit/sum", keepdims=0)
    pairs_B = graph.node(
        "Mod", [sum_B, graph.constant("habit/rows", np.array(shape.habits))], "habit/pair"
    )
    table = graph.constant("habit/table", head.habit_PE)
    found_BE = graph.node("Gather", [table, pairs_B], "habit/found")
    spoken = graph.constant("habit/spoken", head.habit_EO)
    return graph.node("Gemm", [found_BE, spoken, out_BO], "habit")


def _heard(shape: TextInput, recalled: Recalled) -> tuple[str, Array]:
    """The tokens [B, X] that echoes see, and what place each has in each echo [X, F]."""
    intervals = [field for field in shape.echoes if isinstance(field, Interval)]
    recalls = [field for field in shape.echoes if isinstance(field, Recall)]
    reach = shape.echo_reach
    places_XF = np.zeros((shape.echoed, len(shape.echoes)), np.float32)
    places_XF[:reach, : len(intervals)] = pooling(intervals, reach).T
    places_XF[reach:, len(intervals) :] = np.eye(len(recalls))
    newest = range(shape.window - reach, shape.window)
    tokens_BX = recalled.tokens([*newest, *map(recalled.place, recalls)], "echo/token_ids")
    return tokens_BX, places_XF
