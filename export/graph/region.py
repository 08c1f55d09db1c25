"""A place in a graph, or in the branch of an If or the body of a Loop, where nodes are added.

Names in ONNX must be distinct across a graph and its branches, so every region has its prefix.
Inner graphs use the tensors of outer ones by name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from export.graph.builder import Graph, Shape

Kind = tuple[DTypeLike, Shape]
"""The dtype and shape of a tensor."""
Build = Callable[["Region"], Sequence[str]]
"""Adds nodes to a region and returns the names of its results."""


class Region:
    """Adds nodes and constants to `graph` under `prefix`."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.graph = graph
        self.prefix = prefix

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        return self.graph.node(op, inputs, self.prefix + name, **attributes)

    def nodes(
        self, op: str, inputs: Sequence[str], name: str, results: Sequence[str], **attributes: Any
    ) -> list[str]:
        """A node with several results, named `name`/result."""
        outputs = [f"{self.prefix}{name}/{result}" for result in results]
        self.graph.nodes(op, inputs, self.prefix + name, outputs, **attributes)
        return outputs

    def constant(self, name: str, value: Any) -> str:
        """Of the dtype of `value`; Python's integers are int64."""
        return self.graph.constant(self.prefix + name, np.asarray(value))

    def same(self, *tensors: str) -> list[str]:
        """Tensors from outside as the results of a branch (copies: for small ones)."""
        return [self.node("Identity", [x], f"same{i}") for i, x in enumerate(tensors)]

    def when(
        self, flag: str, name: str, kinds: Sequence[Kind], then: Build, otherwise: Build
    ) -> list[str]:
        """Results of `kinds` from one of two branches, of which only one is run."""

        def branch(end: str, build: Build) -> Any:
            inner = self.inside(f"{name}/{end}")
            for result, kind in zip(build(inner), kinds, strict=True):
                inner.graph.output(result, *kind)
            return inner.graph.build().graph

        branches = {"then_branch": branch("then", then), "else_branch": branch("else", otherwise)}
        return self.nodes("If", [flag], name, list(map(str, range(len(kinds)))), **branches)

    def loop(
        self,
        name: str,
        most: str,
        go: str,
        state: Sequence[tuple[str, Kind]],
        body: Callable[["Region", str, Sequence[str]], tuple[str, Sequence[str], Sequence[str]]],
        rows: Sequence[Kind] = (),
    ) -> list[str]:
        """Runs `body` at most `most` times while `go` is true (names of int64 and bool scalars).

        `state` holds what is carried along, with the tensors it begins with. `body` gets a region,
        the number of the iteration and the state; it returns whether to go on, the state, and
        what is stacked over the iterations, of kinds `rows`. Returns the last state, then stacks.
        """
        inner = self.inside(name)
        number, on = (f"{inner.prefix}{x}" for x in ("iteration", "on"))
        inner.graph.input(number, np.int64, [])
        inner.graph.input(on, np.bool_, [])
        carried = [f"{inner.prefix}carried{i}" for i in range(len(state))]
        for tensor, (_, kind) in zip(carried, state, strict=True):
            inner.graph.input(tensor, *kind)
        go_on, last, stacked = body(inner, number, carried)
        inner.graph.output(go_on, np.bool_, [])
        for tensor, kind in zip([*last, *stacked], [*(k for _, k in state), *rows], strict=True):
            inner.graph.output(tensor, *kind)
        results = list(map(str, range(len(state) + len(rows))))
        inputs = [most, go, *(tensor for tensor, _ in state)]
        return self.nodes("Loop", inputs, name, results, body=inner.graph.build().graph)

    def inside(self, name: str) -> "Region":
        """A region in a graph of its own, which is to become an attribute of a node."""
        return Region(Graph(self.prefix + name), f"{self.prefix}{name}/")
