"""Candidate receptive fields of text clusters: absent ones, as changes that can be tried.

    single lags      the nearest SINGLES
    pooled           doubling intervals up to the window, alone and from lag 0 on
    shared           what any other cluster sees: its look-up is there already
    parts            intervals that are seen, cut in two
    recalls          by the newest token, and by the newest two and three

All policies choose among the same candidates. One that adds nothing to what a cluster can tell
already (operators/fields.widens) is none.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luminanet.fields import Interval, Recall, TextField, TextInput, in_order
from luminanet.topology import Cluster, Topology
from training.evolution.operators.fields import AddField, SplitField, middles, share, widens

SINGLES = 16
RECALLS = 3
TINY = 1e-9


def candidates(topology: Topology) -> list[AddField | SplitField]:
    """For all clusters; none for an image network."""
    if not isinstance(topology.input, TextInput):
        return []
    shared = {field for cluster in topology.clusters for field in cluster.text_fields}
    offered = in_order(shared | set(_offered(topology.input.window)))
    return [change for c in topology.clusters for change in (*_more(c, offered), *_parts(c))]


def _offered(window: int) -> list[TextField]:
    singles = [Interval(lag, lag + 1) for lag in range(min(SINGLES, window))]
    # 2, 4, 8, ... below the window: far lags need less resolution than near ones.
    doubled = [1 << k for k in range(1, window.bit_length()) if 1 << k < window]
    far = [Interval(start, min(2 * start, window)) for start in doubled]
    recent = [Interval(0, stop) for stop in (*doubled, window) if stop > 1]
    recalls = [Recall(order) for order in range(1, min(RECALLS + 1, window))]
    return [*singles, *far, *recent, *recalls]


def _more(cluster: Cluster, offered: list[TextField]) -> list[AddField | SplitField]:
    return [AddField(cluster.id, field) for field in offered if _adds(field, cluster)]


def _adds(field: TextField, cluster: Cluster) -> bool:
    if field in cluster.text_fields:
        return False
    return not isinstance(field, Interval) or widens(cluster.intervals, [field])


def _parts(cluster: Cluster) -> list[AddField | SplitField]:
    return [
        SplitField(cluster.id, interval.start, middle, interval.stop)
        for interval in sorted(set(cluster.intervals))
        for middle in middles(interval)
        if widens(cluster.intervals, [Interval(interval.start, middle)])
    ]


def direction(change: AddField | SplitField, seen: Sequence[Interval]) -> dict[TextField, float]:
    """The one direction that a change adds to the intervals that a cluster has `seen`, as a mix of
    the fields that it sees afterwards. A recall is one of its own.

    It has length 1 and is orthogonal to all that is `seen` before, so that what could be learned
    from that does not count; lengths and angles are those of pooled intervals of tokens that do
    not depend on each other.
    """
    rest: list[Interval] = []
    if isinstance(change, SplitField):
        first, *rest = change.parts
    elif isinstance(change.field, Interval):
        first = change.field
    else:
        return {change.field: 1.0}
    edges = sorted({edge for i in (first, *rest, *seen) for edge in (i.start, i.stop)})
    before = np.array([_cover(i, edges) for i in seen]).reshape(len(seen), len(edges) - 1)
    cover = _cover(first, edges)
    # Gram-Schmidt: the least-squares fit is the projection onto what is seen, the rest is new.
    factors, *_ = np.linalg.lstsq(before.T, cover, rcond=None)
    length = float(np.linalg.norm(cover - factors @ before))
    mix: dict[TextField, float] = {first: 1 / length}
    for interval, factor in zip(seen, factors.tolist(), strict=True):
        parts = {interval: 1.0}
        # The whole is no field afterwards: it is spelled by its parts.
        if isinstance(change, SplitField) and interval == change.whole:
            parts = {part: share(part, interval) for part in (first, *rest)}
        for part, scale in parts.items():
            mix[part] = mix.get(part, 0.0) - factor * scale / length
    return {interval: part for interval, part in mix.items() if abs(part) > TINY}


def _cover(interval: Interval, edges: Sequence[int]) -> NDArray[np.float64]:
    """A pooled interval as a mix of the pooled segments between the edges."""
    return np.array(
        [
            share(Interval(a, b), interval) if interval.start <= a and b <= interval.stop else 0.0
            for a, b in pairwise(edges)
        ]
    )
