"""What is recalled, as nodes: where the newest tokens stood before, and what followed them.

Shape legend: that of frozen.py, and B batch, W window, R recalls.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from export.graph.builder import Graph
from luminanet.fields import Field, Interval, Recall, TextInput
from luminanet.reference import NO_TOKEN


class Recalled:
    """The window and what any of `recalls` brings back, each found once.

    `ids` is [B, W + R]: the token ids of the window, and NO_TOKEN where nothing is recalled.
    """

    def __init__(self, graph: Graph, shape: TextInput, recalls: Iterable[Recall]) -> None:
        self.graph = graph
        self.window = shape.window
        self.recalls = sorted(set(recalls))
        self.ids = graph.concat(["token_ids", *self._recalled()], "known/token_ids")

    def place(self, field: Field) -> int:
        """The column of `ids` for a recall or a single lag."""
        if isinstance(field, Recall):
            return self.window + self.recalls.index(field)
        assert isinstance(field, Interval)
        return self.window - field.stop

    def tokens(self, places: Sequence[int], name: str) -> str:
        """[B, n]: some columns of `ids`."""
        first, end = places[0], self.window + len(self.recalls)
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
        return graph.node("Pad", ["token_ids", before, no_token], "recall/text")

    def _followers(self) -> list[str]:
        """int64 [B, 1] a recall: where in `_padded` the token stands that is recalled; 0 is none.

        places_k[.., i]: the follower of the run of k tokens that ends in column i + k - 1 of the
        window, if it is equal to the newest k.
        """
        graph, found = self.graph, list[str]()
        nothing = graph.constant("recall/nothing", np.array([0]))
        followers = np.append(np.arange(2, self.window + 1), 0)
        places = graph.constant("recall/followers", followers)
        for order in range(1, 1 + self.recalls[-1].order):
            name = f"alike{order}"
            at = graph.constant(f"{name}/at", np.array([self.window - order]))
            token = graph.node("Gather", ["token_ids", at], f"{name}/token", axis=1)
            equal = graph.node("Equal", ["token_ids", token], f"{name}/equal")
            if order > 1:
                equal = columns(graph, equal, 0, 1 - order, f"{name}/earlier")
                places = columns(graph, places, 1, FAR, f"{name}/later")
            places = graph.node("Where", [equal, places, nothing], f"{name}/places")
            if Recall(order) in self.recalls:
                axis = graph.constant("recall/axis", np.array([1]))
                found.append(graph.node("ReduceMax", [places, axis], f"{name}/last", keepdims=1))
        return found


FAR = 1 << 31
"""A stop beyond any end."""


def columns(graph: Graph, tensor: str, start: int, stop: int, name: str, axis: int = 1) -> str:
    """A part of a tensor along an axis; negative ends count from behind."""
    ends = [graph.constant(f"slice/{n}", np.array([n])) for n in (start, stop)]
    axes = graph.constant(f"slice/axis{axis}", np.array([axis]))
    return graph.node("Slice", [tensor, *ends, axes], name)
