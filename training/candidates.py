"""What the clusters of a text network could see next, as changes that can be tried.

    single lags      the nearest SINGLES
    pooled           doubling intervals up to the window, alone and from lag 0 on
    shared           what any other cluster sees: its look-up is there already
    parts            intervals that are seen, cut in two

All policies choose among the same candidates. One that adds nothing to what a cluster can tell
already (fields.widens) is none.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luminanet.topology import Cluster, Interval, TextInput, Topology
from training.fields import middles, share, widens
from training.mutations import Refine, See

SINGLES = 16
TINY = 1e-9


def candidates(topology: Topology) -> list[See | Refine]:
    """For all clusters; none for an image network."""
    if not isinstance(topology.input, TextInput):
        return []
    shared = {interval for cluster in topology.clusters for interval in cluster.intervals}
    offered = sorted(shared | set(_offered(topology.input.window)))
    return [change for c in topology.clusters for change in (*_more(c, offered), *_parts(c))]


def _offered(window: int) -> list[Interval]:
    singles = [Interval(lag, lag + 1) for lag in range(min(SINGLES, window))]
    doubled = [1 << k for k in range(1, window.bit_length()) if 1 << k < window]
    far = [Interval(start, min(2 * start, window)) for start in doubled]
    recent = [Interval(0, stop) for stop in (*doubled, window) if stop > 1]
    return [*singles, *far, *recent]


def _more(cluster: Cluster, offered: list[Interval]) -> list[See | Refine]:
    return [
        See(cluster.id, interval.start, interval.stop)
        for interval in offered
        if interval not in cluster.intervals and widens(cluster.intervals, [interval])
    ]


def _parts(cluster: Cluster) -> list[See | Refine]:
    return [
        Refine(cluster.id, interval.start, middle, interval.stop)
        for interval in sorted(set(cluster.intervals))
        for middle in middles(interval)
        if widens(cluster.intervals, [Interval(interval.start, middle)])
    ]


def brought(change: See | Refine) -> tuple[Interval, ...]:
    """The intervals that a change brings."""
    if isinstance(change, See):
        return (Interval(change.start, change.stop),)
    return Interval(change.start, change.middle), Interval(change.middle, change.stop)


def direction(change: See | Refine, seen: Sequence[Interval]) -> dict[Interval, float]:
    """The one direction that a change adds to what a cluster sees, as a mix of the intervals that
    it sees afterwards.

    It has length 1 and is orthogonal to all that is `seen` before, so that what could be learned
    from that does not count; lengths and angles are those of pooled intervals of tokens that do
    not depend on each other.
    """
    first, *rest = brought(change)
    edges = sorted({edge for i in (first, *rest, *seen) for edge in (i.start, i.stop)})
    before = np.array([_cover(i, edges) for i in seen]).reshape(len(seen), len(edges) - 1)
    cover = _cover(first, edges)
    factors, *_ = np.linalg.lstsq(before.T, cover, rcond=None)
    length = float(np.linalg.norm(cover - factors @ before))
    mix = {first: 1 / length}
    for interval, factor in zip(seen, factors.tolist(), strict=True):
        parts = {interval: 1.0}
        if rest and interval == Interval(change.start, change.stop):
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
