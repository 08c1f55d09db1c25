"""What a network takes from a window of tokens, as nodes: all kinds of fields, echoes and habits.

Single lags and recalls are looked up for all views at once, and alone, so that only true pooling
costs multiplications. All echoes are weights over the tokens that any of them sees, summed before
a single product:

    place_XF     1 / sqrt(length) at the lags of an interval, 1 at the token that is recalled
    heard_X      sum over echoes of  gate_f * salience_f(token x) * place_xf
    out_O        += heard_X @ vocabulary_XO of these tokens

NO_TOKEN, -1, is the last row of every table that is looked up. Shape legend: that of frozen.py, and
B batch, W window, R recalls, L single lags and recalls, N tokens as far back as a pooled field
reaches, P pooled fields, X the newest tokens as far back as an echo reaches, then what is recalled.
"""

import math
from collections.abc import Sequence

import numpy as np

from export.graph.builder import Graph
from export.network.views import Seen, Views
from luminanet.fields import Field, LagField, Lags, Recall, TextInput, View, in_order, is_pooled
from luminanet.frozen import HASH, Array, FrozenNet, TextHead
from luminanet.interface import TOKENS
from luminanet.reference import NO_TOKEN, layer_norm, saliences

FAR = 1 << 31
"""A stop beyond any end."""


class TextInputs:
    """The inputs of one network in one graph; what is recalled is found once.

    `ids` is [B, W + R]: the token ids of the window, and NO_TOKEN where nothing is recalled.
    """

    def __init__(self, graph: Graph, net: FrozenNet, views: Views) -> None:
        assert isinstance(net.topology.input, TextInput)
        assert isinstance(net.head, TextHead)
        self.graph = graph
        self.outputs = net.topology.outputs
        self.shape = net.topology.input
        self.head = net.head
        self.views = views
        wanted = {field for view in views for field in view}.union(self.shape.echoes)
        self.recalls = sorted(field for field in wanted if isinstance(field, Recall))
        self.ids = graph.concat([TOKENS, *self._recalled()], "known/token_ids")

    # ------------------------------------------------------------------ what clusters see

    def seen(self) -> Seen:
        """Every view as one tensor [B, I]."""
        if not self.views:
            return {}
        table = self.graph.constant("embedding", embedding_table(self.head))
        parts = self._looked_up(table)
        for view, found in self._pooled(table).items():
            parts[view] += found
        return {view: self.graph.concat(parts[view], name) for view, name in self.views.items()}

    def _looked_up(self, table: str) -> dict[View, list[str]]:
        """The single lags and recalls of every view as one tensor, if it has some."""
        graph = self.graph
        places = {v: [self._place(f) for f in v if not is_pooled(f)] for v in self.views}
        looking = [view for view in self.views if places[view]]
        parts: dict[View, list[str]] = {view: [] for view in self.views}
        if not looking:
            return parts
        ids_BL = self._tokens([p for view in looking for p in places[view]], "seen/token_ids")
        rows_BLE = graph.node("Gather", [table, ids_BL], "seen/rows")
        flat = graph.node("Flatten", [rows_BLE], "seen", axis=1)
        names = [f"{self.views[view]}/single" for view in looking]
        sizes = [len(places[view]) * self.shape.embedding for view in looking]
        cut = graph.cut(flat, names, sizes)
        return parts | {view: [part] for view, part in zip(looking, cut, strict=True)}

    def _pooled(self, table: str) -> dict[View, list[str]]:
        """The sums over lags of every view: one tensor if all want the same, else one a field."""
        graph = self.graph
        wanted = {view: [f for f in view if is_pooled(f)] for view in self.views}
        wanted = {view: found for view, found in wanted.items() if found}
        fields = in_order({field for found in wanted.values() for field in found})
        if not fields:
            return {}
        reach = max(field.reach for field in fields)
        newest_BN = TOKENS
        if reach < self.shape.window:
            newest_BN = columns(graph, newest_BN, -reach, FAR, "pooled/token_ids")
        rows_BNE = graph.node("Gather", [table, newest_BN], "pooled/rows")
        weights_PN = graph.constant("pooled/weights", pooling(fields, reach))
        sums_BPE = graph.node("MatMul", [weights_PN, rows_BNE], "pooled/sums")
        flat = graph.node("Flatten", [sums_BPE], "pooled", axis=1)
        if all(found == fields for found in wanted.values()):
            return {view: [flat] for view in wanted}
        sizes = [self.shape.embedding] * len(fields)
        cut = graph.cut(flat, [field.name for field in fields], sizes)
        tensors = dict(zip(fields, cut, strict=True))
        return {view: [tensors[field] for field in found] for view, found in wanted.items()}

    # ------------------------------------------------------------------ what is looked up

    def _place(self, field: Field) -> int:
        """The column of `ids` for a recall or a single lag."""
        if isinstance(field, Recall):
            return self.shape.window + self.recalls.index(field)
        assert isinstance(field, Lags)
        return self.shape.window - field.reach

    def _tokens(self, places: Sequence[int], name: str) -> str:
        """[B, n]: some columns of `ids`."""
        first, end = places[0], self.shape.window + len(self.recalls)
        if list(places) == list(range(end)):
            return self.ids
        if list(places) == list(range(first, end)):
            return columns(self.graph, self.ids, first, FAR, name)
        at = self.graph.constant(f"{name}/at", np.array(places))
        return self.graph.node("Gather", [self.ids, at], name, axis=1)

    def _recalled(self) -> list[str]:
        """[B, R], if anything is recalled."""
        if not self.recalls:
            return []
        last_BR = self.graph.concat(self._followers(), "recalled/last")
        inputs = [self._padded(), last_BR]
        return [self.graph.node("GatherElements", inputs, "recalled/token_ids", axis=1)]

    def _padded(self) -> str:
        """[B, 1 + W]: NO_TOKEN before the window."""
        graph = self.graph
        before = graph.constant("recall/before", np.array([0, 1, 0, 0]))
        no_token = graph.constant("recall/no_token", np.array(NO_TOKEN))
        return graph.node("Pad", [TOKENS, before, no_token], "recall/text")

    def _followers(self) -> list[str]:
        """int64 [B, 1] a recall: where in `_padded` the token stands that is recalled; 0 is none.

        places_k[.., i]: the follower of the run of k tokens that ends in column i + k - 1 of the
        window, if it is equal to the newest k.
        """
        graph, window, found = self.graph, self.shape.window, list[str]()
        nothing = graph.constant("recall/nothing", np.array([0]))
        # In `_padded`, column i of the window is i + 1 and its follower i + 2; the newest has none.
        places = graph.constant("recall/followers", np.append(np.arange(2, window + 1), 0))
        for order in range(1, 1 + self.recalls[-1].order):
            name = f"alike{order}"
            at = graph.constant(f"{name}/at", np.array([window - order]))
            token = graph.node("Gather", [TOKENS, at], f"{name}/token", axis=1)
            equal = graph.node("Equal", [TOKENS, token], f"{name}/equal")
            if order > 1:
                equal = columns(graph, equal, 0, 1 - order, f"{name}/earlier")
                places = columns(graph, places, 1, FAR, f"{name}/later")
            places = graph.node("Where", [equal, places, nothing], f"{name}/places")
            found += self._last(places, order)
        return found

    def _last(self, places: str, order: int) -> list[str]:
        """The nth last of the places where the newest `order` tokens stood, [B, 1] a recall by
        these: before the second last is looked for, the last is struck out, and so on."""
        graph, found, last = self.graph, list[str](), ""
        own = [recall.nth for recall in self.recalls if recall.order == order]
        for nth in range(1, 1 + max(own, default=0)):
            axis = graph.constant("recall/axis", np.array([1]))
            nothing = graph.constant("recall/nothing", np.array([0]))
            name = f"alike{order}" if nth == 1 else f"alike{order}/{nth}"
            if nth > 1:
                struck = graph.node("Equal", [places, last], f"{name}/struck")
                places = graph.node("Where", [struck, nothing, places], f"{name}/places")
            last = graph.node("ReduceMax", [places, axis], f"{name}/last", keepdims=1)
            if nth in own:
                found.append(last)
        return found

    # ------------------------------------------------------------------ what sounds in the output

    def echoed(self, read: str) -> str:
        """[B, O] of the readouts [B, O + F]: with what echoes add (luminanet.frozen.TextHead)."""
        graph, echoes = self.graph, self.shape.echoes
        vocabulary = graph.constant("output_layer", self.head.vocabulary_VO)
        salience_VF = np.pad(saliences(self.head), ((0, 1), (0, 0))).astype(np.float32)
        table = graph.constant("echo/table", salience_VF)
        tokens_BX, places_XF = self._heard()
        rows_BXO = graph.node("Gather", [vocabulary, tokens_BX], "echo/rows")
        salience_BXF = graph.node("Gather", [table, tokens_BX], "echo/salience")
        places = graph.constant("echo/places", places_XF)
        weights_BXF = graph.node("Mul", [salience_BXF, places], "echo/weights")
        sizes = graph.constant("readout/sizes", np.array([self.outputs, len(echoes)]))
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

    def _heard(self) -> tuple[str, Array]:
        """The tokens [B, X] that echoes see, and what place each has in each echo [X, F]."""
        echoes, reach, window = self.shape.echoes, self.shape.echo_reach, self.shape.window
        places_XF = np.zeros((self.shape.echoed, len(echoes)), np.float32)
        at = list(range(window - reach, window))
        for place_X, field in zip(places_XF.T, echoes, strict=True):
            if isinstance(field, Lags):
                place_X[:reach] = pooling([field], reach)
            else:
                place_X[len(at)] = 1
                at.append(self._place(field))
        return self._tokens(at, "echo/token_ids"), places_XF

    def habitual(self, out_BO: str) -> str:
        """[B, O] with what tends to follow the newest two tokens (luminanet.frozen.TextHead)."""
        graph, head, window = self.graph, self.head, self.shape.window
        assert head.habit_PE is not None
        assert head.habit_EO is not None
        at = graph.constant("habit/at", np.array([window - 2, window - 1]))
        newest_B2 = graph.node("Gather", [TOKENS, at], "habit/newest", axis=1)
        factors = graph.constant("habit/hash", np.array(HASH))
        parts_B2 = graph.node("Mul", [newest_B2, factors], "habit/parts")
        axis = graph.constant("habit/axis", np.array([1]))
        sum_B = graph.node("ReduceSum", [parts_B2, axis], "habit/sum", keepdims=0)
        rows = graph.constant("habit/rows", np.array(self.shape.habits))
        pairs_B = graph.node("Mod", [sum_B, rows], "habit/pair")
        table = graph.constant("habit/table", head.habit_PE)
        found_BE = graph.node("Gather", [table, pairs_B], "habit/found")
        spoken = graph.constant("habit/spoken", head.habit_EO)
        return graph.node("Gemm", [found_BE, spoken, out_BO], "habit")


def embedding_table(head: TextHead) -> Array:
    """[V + 1, E]: the normed embedding; the last row is nothing, because NO_TOKEN is -1."""
    table_VE = layer_norm(head.embed_VE, head.norm_in_scale_E, head.norm_in_bias_E)
    nothing_E = np.zeros((1, table_VE.shape[1]))
    return np.vstack([table_VE, nothing_E]).astype(np.float32)


def pooling(fields: Sequence[LagField], reach: int) -> Array:
    """[P, N]: sum / sqrt(length) over the lags of each; lag 0 is the last of the N positions."""
    weights_PN = np.zeros((len(fields), reach), np.float32)
    for row_N, field in zip(weights_PN, fields, strict=True):
        row_N[[reach - 1 - lag for lag in field.lags]] = 1 / math.sqrt(len(field.lags))
    return weights_PN


def columns(graph: Graph, tensor: str, start: int, stop: int, name: str, axis: int = 1) -> str:
    """A part of a tensor along an axis; negative ends count from behind."""
    ends = [graph.constant(f"slice/{n}", np.array([n])) for n in (start, stop)]
    axes = graph.constant(f"slice/axis{axis}", np.array([axis]))
    return graph.node("Slice", [tensor, *ends, axes], name)
