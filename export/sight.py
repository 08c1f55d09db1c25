"""What clusters see -> their drives, in the layout that a form asks for.

    drive_i = fields_i @ see_i + bias_i        once, for both passes

Shape legend: that of frozen.py, and B batch, K clusters.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from export.forms import Scope
from luminanet.frozen import Array, FrozenNet
from luminanet.topology import Cluster

Key = TypeVar("Key", bound=Hashable)
Fields = Mapping[int, Sequence[str]]
"""Cluster -> the names of the tensors [B, I] that it sees."""


class Sight:
    """The drives of one network in one graph; every one is computed once."""

    def __init__(self, graph: Scope, net: FrozenNet, fields: Fields) -> None:
        self.graph = graph
        self.net = net
        self.fields = fields
        self._each: dict[int, str] = {}
        self._spread: set[int] = set()
        """Clusters that see nothing whose drive has a row for all of the batch by now."""
        self._alike = dict(grouped([i for i in fields if fields[i]], lambda i: tuple(fields[i])))

    def sees(self, id: int) -> bool:
        return id in self._spread or bool(self.fields[id])

    def each(self, id: int) -> str:
        """The drive of one cluster [B, H]; its bias alone [H] if it sees nothing.

        Clusters that see the same share one Gemm.
        """
        if id not in self._each:
            if self.fields[id]:
                together = [i for i in self._alike[tuple(self.fields[id])] if i not in self._each]
                self._each |= self._seen(together)
            else:
                bias_H = self.net.clusters[id].bias_H
                self._each[id] = self.graph.constant(f"cluster{id}/bias", bias_H)
        return self._each[id]

    def _seen(self, ids: Sequence[int]) -> dict[int, str]:
        widths = [self.net.topology.cluster(i).width for i in ids]
        drives = self.graph.cut(
            self._gemm(f"{_named(ids)}/see", ids, widths),
            [f"cluster{i}/see" for i in ids],
            widths,
        )
        return dict(zip(ids, drives, strict=True))

    def _gemm(self, name: str, ids: Sequence[int], widths: Sequence[int]) -> str:
        """The drives of clusters that see the same, side by side [B, widths]."""
        fields_BI = self.graph.concat(self.fields[ids[0]], f"{_named(ids)}/fields")
        weights = [self.net.clusters[i] for i in ids]
        see_IW = np.hstack([widen(w.see_IH, n) for w, n in zip(weights, widths, strict=True)])
        bias_W = np.hstack([widen(w.bias_H[None], n) for w, n in zip(weights, widths, strict=True)])
        matrix = self.graph.constant(f"{name}/weights", see_IW)
        bias = self.graph.constant(f"{name}/bias", bias_W[0])
        return self.graph.node("Gemm", [fields_BI, matrix, bias], name)

    def row(self, id: int) -> str:
        """The drive of one cluster [B, H], also if it sees nothing."""
        if not self.sees(id):
            width = self.net.topology.cluster(id).width
            name = f"cluster{id}/alone"
            self._each[id] = self.graph.every_row(self.each(id), (), (width,), name)
            self._spread.add(id)
        return self.each(id)

    def stack(self, level: str, ids: Sequence[int], width: int) -> tuple[str, list[int]]:
        """The drives of a level [K, B, width] and their order; zeros fill up narrow clusters."""
        own = [i for i in ids if self.fields[i]]
        others = [i for i in ids if i not in own]
        groups = [found for _, found in grouped(own, lambda i: tuple(self.fields[i]))]
        parts = [self._gemm(f"{_named(g)}/see", g, [width] * len(g)) for g in groups]
        parts += [self._padded(i, width) for i in others]
        order = [i for group in groups for i in group] + others
        wide_BW = self.graph.concat(parts, f"{level}/see")
        return self.graph.stacked(wide_BW, len(ids), width, f"{level}/see/stacked"), order

    def _padded(self, id: int, width: int) -> str:
        """One drive as [B, width]."""
        missing = width - self.net.topology.cluster(id).width
        if not missing:
            return self.row(id)
        pads = self.graph.constant(f"pads/{missing}", np.array([0, 0, 0, missing]))
        return self.graph.node("Pad", [self.row(id), pads], f"cluster{id}/padded")

    # ------------------------------------------------------------------ side by side

    def wide(self, level: str, ids: Sequence[int]) -> str:
        """The drives of a level side by side [B, widths]; zeros where a field is not seen."""
        if not any(self.fields[i] for i in ids):
            return self.graph.concat([self.row(i) for i in ids], f"{level}/see")
        own = [self._by_field(self.net.topology.cluster(i)) for i in ids]
        sizes = {field: len(rows) for found in own for field, rows in found.items()}
        widths = [self.net.topology.cluster(i).width for i in ids]
        blocks = [
            [found.get(field, np.zeros((size, width), np.float32)) for field, size in sizes.items()]
            for found, width in zip(own, widths, strict=True)
        ]
        see_IW = np.hstack([np.vstack(column) for column in blocks])
        bias_W = np.concatenate([self.net.clusters[i].bias_H for i in ids])
        matrix = self.graph.constant(f"{level}/see/weights", see_IW)
        bias = self.graph.constant(f"{level}/see/bias", bias_W)
        together = self.graph.concat(list(sizes), f"{level}/fields")
        return self.graph.node("Gemm", [together, matrix, bias], f"{level}/see")

    def _by_field(self, cluster: Cluster) -> dict[str, Array]:
        """The rows of a cluster's see matrix, by the tensor that they are multiplied with."""
        see_IH, at = self.net.clusters[cluster.id].see_IH, 0
        found: dict[str, Array] = {}
        for name, field in zip(self.fields[cluster.id], cluster.fields, strict=True):
            rows = see_IH[at : at + self.net.topology.input.inputs(field)]
            found[name] = found[name] + rows if name in found else rows
            at += len(rows)
        return found


def widen(matrix: Array, width: int) -> Array:
    """Zeros to the right up to `width` columns."""
    return np.pad(matrix, ((0, 0), (0, width - matrix.shape[1])))


def _named(ids: Sequence[int]) -> str:
    return f"cluster{'s' * (len(ids) > 1)}{','.join(map(str, ids))}"


def grouped(items: Iterable[int], key: Callable[[int], Key]) -> list[tuple[Key, list[int]]]:
    """Items of one key together, in the order in which keys appear."""
    groups: dict[Key, list[int]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())
