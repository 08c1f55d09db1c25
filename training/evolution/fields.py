"""Receptive fields of text clusters: adding, refining and leaving out what they see.

A change is a lineage: for every field afterwards, the fields before that its weights come from,
each with a factor. What a cluster sees is sum over its fields of  seen_E @ rows_EH, and a pooled
interval is  sum / sqrt(length); so

    seeing one more    exactly: its rows start at zero
    refining           exactly: pooled(a, b) = sqrt(m-a / b-a) pooled(a, m) + sqrt(b-m / b-a)
                       pooled(m, b), so both parts get the old rows times these factors; a part
                       that is seen already takes them up
    leaving out        loses what it saw

A split (transplant.py) gives both halves all fields, because they can only share a hidden state
that is the same in both; they come to differ when signals refine or leave out those of one half.

Fields stay in order, because clusters that see the same ones in the same order share a product
when they are exported. Shape legend: that of frozen.py.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from luminanet.errors import TopologyError
from luminanet.fields import Interval, TextField, order_of
from luminanet.frozen import Array
from luminanet.topology import Cluster

Lineage = Sequence[tuple[TextField, Mapping[int, float]]]
"""The fields after a change, and for each: position before -> factor. The first position is that
of the field itself, if it was there."""


def seeing(cluster: Cluster, field: TextField) -> Lineage:
    before = cluster.text_fields
    if field in before:
        raise TopologyError(f"cluster {cluster.id} sees {field} already")
    return _sorted([*_kept(before), (field, {})])


def refining(cluster: Cluster, interval: Interval, middle: int) -> Lineage:
    position = _position(cluster, interval)
    if not interval.start < middle < interval.stop:
        raise TopologyError(f"lag {middle} does not cut {interval} of cluster {cluster.id} in two")
    lineage = [own for own in _kept(cluster.text_fields) if position not in own[1]]
    for part in (Interval(interval.start, middle), Interval(middle, interval.stop)):
        factor = {position: share(part, interval)}
        twin = next((k for k, (other, _) in enumerate(lineage) if other == part), None)
        if twin is None:
            lineage.append((part, factor))
        else:
            lineage[twin] = (part, {**lineage[twin][1], **factor})
    return _sorted(lineage)


def overlooking(cluster: Cluster, field: TextField) -> Lineage:
    position = _position(cluster, field)
    return _sorted([own for own in _kept(cluster.text_fields) if position not in own[1]])


def share(part: Interval, whole: Interval) -> float:
    """What pooling `whole` makes of the pooled `part`."""
    return math.sqrt((part.stop - part.start) / (whole.stop - whole.start))


def middles(interval: Interval) -> tuple[int, ...]:
    """Lags that cut an interval in two: the geometric middle (near fine, far coarse), and the
    arithmetic one; none for a single lag."""
    start, stop = interval.start, interval.stop
    geometric = round(math.sqrt((start + 1) * (stop + 1))) - 1
    found = {max(start + 1, min(stop - 1, middle)) for middle in (geometric, (start + stop) // 2)}
    return tuple(sorted(middle for middle in found if start < middle < stop))


def widens(seen: Sequence[Interval], more: Sequence[Interval]) -> bool:
    """Whether `more` can tell what `seen` cannot: whether sums over it are no mix of theirs."""

    def rank(intervals: Sequence[Interval]) -> int:
        edges = sorted({edge for i in intervals for edge in (i.start, i.stop)})
        covers = [[i.start <= edge < i.stop for edge in edges] for i in intervals]
        return int(np.linalg.matrix_rank(np.array(covers, float))) if intervals else 0

    return rank([*seen, *more]) > rank(seen)


# ---------------------------------------------------------------------- weights


def inherit(see_IH: Array, lineage: Lineage, before: int, embedding: int, mean: bool) -> Array:
    """The rows of `see` after a change of a cluster that saw `before` fields.

    `mean`, for second moments: rows are copied, not scaled, and new ones start at the mean of
    their neuron, so that their first steps are no larger than those of others.
    """
    blocks_FEH = see_IH.reshape(before, embedding, see_IH.shape[1])
    fresh_EH = np.zeros((embedding, see_IH.shape[1]), np.float32)
    if mean and before:
        fresh_EH = fresh_EH + see_IH.mean(0)

    def rows(origins: Mapping[int, float]) -> Array:
        if not origins:
            return fresh_EH
        if mean:
            return np.asarray(blocks_FEH[next(iter(origins))])
        factors_F = np.array(list(origins.values()))
        mixed_EH = np.tensordot(factors_F, blocks_FEH[list(origins)].astype(np.float64), 1)
        return np.asarray(mixed_EH, np.float32)

    return np.concatenate([fresh_EH[:0], *(rows(origins) for _, origins in lineage)])


def _kept(before: Sequence[TextField]) -> list[tuple[TextField, Mapping[int, float]]]:
    return [(field, {k: 1.0}) for k, field in enumerate(before)]


def _position(cluster: Cluster, field: TextField) -> int:
    before = cluster.text_fields
    if field not in before:
        raise TopologyError(f"cluster {cluster.id} does not see {field}")
    return before.index(field)


def _sorted(lineage: Lineage) -> Lineage:
    return sorted(lineage, key=lambda own: order_of(own[0]))
