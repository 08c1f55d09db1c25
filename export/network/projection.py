"""What clusters see -> their drives, in the layout that a form asks for.

    drive_i = fields_i @ see_i + bias_i        once, for both passes

Shape legend: that of frozen.py, and B batch, K clusters.
"""

from collections.abc import Sequence

import numpy as np

from export.network.lowerings import Scope
from export.network.views import Seen, grouped, named
from luminanet.fields import View, view_of
from luminanet.frozen import Array, FrozenNet


class Sight:
    """The drives of one network in one graph; every one is computed once."""

    def __init__(self, graph: Scope, net: FrozenNet, seen: Seen) -> None:
        self.graph = graph
        self.net = net
        self.seen = seen
        self.views = {c.id: view_of(c.fields) for c in net.topology.clusters}
        self._each: dict[int, str] = {}
        self._spread: set[int] = set()
        """Clusters that see nothing whose drive has a row for all of the batch by now."""
        self._alike = dict(
            grouped([i for i in self.views if self.views[i]], self.views.__getitem__)
        )

    def sees(self, id: int) -> bool:
        return id in self._spread or bool(self.views[id])

    def each(self, id: int) -> str:
        """The drive of one cluster [B, H]; its bias alone [H] if it sees nothing.

        Clusters that see the same share one Gemm.
        """
        if id not in self._each:
            if self.views[id]:
                together = [i for i in self._alike[self.views[id]] if i not in self._each]
                self._each |= self._seen(together)
            else:
                bias_H = self.net.clusters[id].bias_H
                self._each[id] = self.graph.constant(f"cluster{id}/bias", bias_H)
        return self._each[id]

    def _seen(self, ids: Sequence[int]) -> dict[int, str]:
        widths = [self.net.topology.cluster(i).width for i in ids]
        drives = self.graph.cut(
            self._gemm(f"{named(ids)}/see", self.views[ids[0]], ids, widths),
            [f"cluster{i}/see" for i in ids],
            widths,
        )
        return dict(zip(ids, drives, strict=True))

    def _gemm(self, name: str, view: View, ids: Sequence[int], widths: Sequence[int]) -> str:
        """The drives of clusters from one tensor, side by side [B, widths]; zeros for what of it a
        cluster does not see."""
        pairs = list(zip(ids, widths, strict=True))
        see_IW = np.hstack([widen(self._rows(i, view), n) for i, n in pairs])
        bias_W = np.hstack([widen(self.net.clusters[i].bias_H[None], n) for i, n in pairs])
        matrix = self.graph.constant(f"{name}/weights", see_IW)
        bias = self.graph.constant(f"{name}/bias", bias_W[0])
        return self.graph.node("Gemm", [self.seen[view], matrix, bias], name)

    def _rows(self, id: int, view: View) -> Array:
        """The see matrix [I of the view, H] of a cluster."""
        cluster, shape = self.net.topology.cluster(id), self.net.topology.input
        see_IH, at = self.net.clusters[id].see_IH, 0
        found = {
            field: np.zeros((shape.inputs(field), cluster.width), np.float32) for field in view
        }
        for field in cluster.fields:
            found[field] = see_IH[at : at + shape.inputs(field)]
            at += len(found[field])
        return np.vstack(list(found.values()))

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
        groups = grouped([i for i in ids if self.views[i]], self.views.__getitem__)
        others = [i for i in ids if not self.views[i]]
        parts = [self._gemm(f"{named(g)}/see", v, g, [width] * len(g)) for v, g in groups]
        parts += [self._padded(i, width) for i in others]
        order = [i for _, group in groups for i in group] + others
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
        """The drives of a level side by side [B, widths]."""
        view = self.net.topology.level_views[self.net.topology.cluster(ids[0]).level]
        if not view:
            return self.graph.concat([self.row(i) for i in ids], f"{level}/see")
        widths = [self.net.topology.cluster(i).width for i in ids]
        return self._gemm(f"{level}/see", view, ids, widths)


def widen(matrix: Array, width: int) -> Array:
    """Zeros to the right up to `width` columns."""
    return np.pad(matrix, ((0, 0), (0, width - matrix.shape[1])))
