"""The forms of a graph: ways to write the same two passes down as products of matrices.

    bus         the messages that a level hears meet on one bus, where a matrix of gates mixes them
    shared      the clusters of a level side by side in one batched product for each step
    block       the clusters of a level side by side: one matrix for what they see, two for a sum
                that they hear together, or one with zeros where nothing connects

Fewer nodes cost less at batch 1, fewer zeros at large batches; choose.py weighs them.
Shape legend: that of frozen.py, and B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from export.graph.builder import Graph
from luminanet.frozen import FrozenNet
from luminanet.schedule import Heard, Visit
from luminanet.topology import Activation, Connection

OPS = {Activation.GELU: "Gelu", Activation.RELU: "Relu", Activation.TANH: "Tanh"}


class Form(StrEnum):
    BUS = "bus"
    SHARED = "shared"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Hidden:
    """The last hidden states of all clusters, side by side: the name of a tensor [B, widths].

    `parts` says who lies where, as (cluster, width): wider than the cluster where zeros fill up,
    and None for what is not to be read out.
    """

    tensor: str
    parts: tuple[tuple[int | None, int], ...]


def shares(
    net: FrozenNet, heard: Heard, targets: Sequence[Visit], sources: Sequence[Visit]
) -> NDArray[np.float64]:
    """[T, S]: gate / n, zero where nothing is heard."""
    shares_TS = np.zeros((len(targets), len(sources)))
    for row, target in zip(shares_TS, targets, strict=True):
        # All sources count, also those that are heard in the other pass alone.
        n = len(net.topology.sources[target.cluster])
        for source in heard[target]:
            gate = net.gates[Connection(source=source.cluster, target=target.cluster)]
            row[sources.index(source)] = gate / n
    return shares_TS


class Scope(Graph):
    """A graph with a batch: `batch` is a tensor whose first size is B."""

    def __init__(self, name: str, batch: str) -> None:
        super().__init__(name)
        self._batch = batch
        self._rows = ""

    def stacked(self, tensor: str, count: int, width: int, name: str) -> str:
        """[B, count * width] -> [count, B, width]."""
        if count == 1:
            front = self.constant("front", np.array([0]))
            return self.node("Unsqueeze", [tensor, front], name)
        shape = self.constant(f"sizes/-1x{count}x{width}", np.array([-1, count, width]))
        rows = self.node("Reshape", [tensor, shape], f"{name}/rows")
        return self.node("Transpose", [rows], name, perm=(1, 0, 2))

    def activate(self, activation: Activation, drive: str, name: str) -> str:
        if activation is Activation.SILU:
            gate = self.node("Sigmoid", [drive], f"{name}/gate")
            return self.node("Mul", [drive, gate], f"{name}/hidden")
        return self.node(OPS[activation], [drive], f"{name}/hidden")

    def every_row(self, tensor: str, before: Sequence[int], after: Sequence[int], name: str) -> str:
        """Repeats a tensor [before, 1, after] for every row of the batch: [before, B, after]."""
        if not self._rows:
            self._rows = self.node("Shape", [self._batch], "rows", start=0, end=1)
        sizes = [
            self.constant(f"sizes/{'x'.join(map(str, part))}", np.array(part)) if part else ""
            for part in (before, after)
        ]
        parts = [part for part in (sizes[0], self._rows, sizes[1]) if part]
        return self.node("Expand", [tensor, self.concat(parts, f"{name}/shape", axis=0)], name)
