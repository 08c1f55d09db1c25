"""What is recalled, as nodes: where the newest tokens stood before, and what followed them.

Shape legend: that of frozen.py, and B batch, W window, R recalls.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx

from export.graph import Graph
from luminanet.receptive import Recall, TextInput
from luminanet.reference import NO_TOKEN


class Recalled:
    """The tokens that any of `recalls` brings back, each found once."""

    def __init__(self, graph: Graph, shape: TextInput, recalls: Iterable[Recall]) -> None:
        self.graph = graph
        self.window = shape.window
        self._last = self._followers(set(recalls))
        self._tokens: dict[tuple[int, ...], str] = {}

    def tokens(self, recalls: Sequence[Recall]) -> str:
        """[B, R]: token ids, NO_TOKEN where nothing is recalled."""
        orders = tuple(recall.order for recall in recalls)
        if orders not in self._tokens:
            graph, name = self.graph, f"recall{','.join(map(str, orders))}"
            last_BR = graph.concat([self._last[k] for k in orders], f"{name}/last")
            ids_BR = graph.node("GatherElements", ["token_ids", last_BR], f"{name}/found", axis=1)
            is_BR = graph.node("Cast", [last_BR], f"{name}/is_found", to=onnx.TensorProto.BOOL)
            no_token = graph.constant("recall/no_token", np.array([NO_TOKEN]))
            self._tokens[orders] = graph.node(
                "Where", [is_BR, ids_BR, no_token], f"{name}/token_ids"
            )
        return self._tokens[orders]

    def _followers(self, recalls: set[Recall]) -> dict[int, str]:
        """Order -> int64 [B, 1], the position in the window of the token that is recalled. 0 is
        none, because what stands there follows nothing."""
        graph, alike, found = self.graph, "", dict[int, str]()
        for order in range(1, 1 + max((recall.order for recall in recalls), default=0)):
            name = f"alike{order}"
            at = graph.constant(f"{name}/at", np.array([self.window - order]))
            token = graph.node("Gather", ["token_ids", at], f"{name}/token", axis=1)
            equal = graph.node("Equal", ["token_ids", token], f"{name}/equal")
            if order > 1:  # columns order - 1 .. of the window: each ends a run of `order` tokens
                later = columns(graph, alike, 1, FAR, f"{name}/later")
                earlier = columns(graph, equal, 0, 1 - order, f"{name}/earlier")
                equal = graph.node("And", [later, earlier], name)
            alike = equal
            if Recall(order) in recalls:
                nothing = graph.constant("recall/nothing", np.array([0]))
                after = np.arange(order, self.window + 1) % self.window
                follower = graph.constant(f"{name}/follower", after)
                places = graph.node("Where", [alike, follower, nothing], f"{name}/places")
                axis = graph.constant("recall/axis", np.array([1]))
                last = graph.node("ReduceMax", [places, axis], f"{name}/last", keepdims=1)
                found[order] = last
        return found


FAR = 1 << 31
"""A stop beyond any end."""


def newest(graph: Graph, count: int, shape: TextInput, name: str) -> str:
    """[B, count]: the newest tokens of the window."""
    if count == shape.window:
        return "token_ids"
    return columns(graph, "token_ids", -count, FAR, name)


def columns(graph: Graph, tensor: str, start: int, stop: int, name: str, axis: int = 1) -> str:
    """A part of a tensor along an axis; negative ends count from behind."""
    ends = [graph.constant(f"slice/{n}", np.array([n])) for n in (start, stop)]
    axes = graph.constant(f"slice/axis{axis}", np.array([axis]))
    return graph.node("Slice", [tensor, *ends, axes], name)
