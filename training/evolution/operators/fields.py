"""Operators on the receptive fields of text clusters: add a field, split one in two, drop one.

A change has a provenance: for every field afterwards, the fields before that its weights come
from, each with a factor. What a cluster sees is sum over its fields of  seen_E @ rows_EH, and a
pooled interval is  sum / sqrt(length); so

    AddField     exactly: its rows start at zero
    SplitField   exactly: pooled(a, b) = sqrt(m-a / b-a) pooled(a, m) + sqrt(b-m / b-a)
                 pooled(m, b), so both parts get the old rows times these factors; a part that is
                 seen already takes them up
    DropField    loses what it saw

Splitting a cluster (clusters.py) gives both halves all fields, because they can only share a
hidden state that is the same in both; they come to differ when fields of one half are split or
dropped.

Fields stay in order, because clusters that see the same ones in the same order share a product
when they are exported. Shape legend: that of frozen.py.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from luminanet.errors import TopologyError
from luminanet.fields import Interval, TextField, TextInput, order_of, text_field
from luminanet.frozen import Array, FrozenNet
from luminanet.topology import Cluster, Topology
from training.evolution.operators.base import FIELD, Carried, Field, Operator, Role

Provenance = Sequence[tuple[TextField, Mapping[int, float]]]
"""The fields after a change, and for each: position before -> factor. The first position is that
of the field itself, if it was there."""


@dataclass(frozen=True, slots=True)
class FieldChange(Operator):
    """What all operators on the fields of one cluster have in common."""

    cluster: int
    noun: ClassVar[str] = FIELD

    @abstractmethod
    def provenance(self, cluster: Cluster) -> Provenance:
        """What the cluster sees afterwards, and where the weights of each field come from."""

    def apply(self, topology: Topology) -> Topology:
        cluster = topology.cluster(self.cluster)
        if not isinstance(topology.input, TextInput):
            raise TopologyError("only the fields of text clusters change")
        fields = tuple(field for field, _ in self.provenance(cluster))
        clusters = [replace(c, fields=fields) if c == cluster else c for c in topology.clusters]
        return topology.having(clusters, topology.connections)

    def carry(self, net: FrozenNet, role: Role, _rng: np.random.Generator) -> Carried:
        cluster, weights = net.topology.cluster(self.cluster), net.clusters[self.cluster]
        assert isinstance(net.topology.input, TextInput)
        see_IH = inherit(
            weights.see_IH,
            self.provenance(cluster),
            before=len(cluster.fields),
            embedding=net.topology.input.embedding,
            mean=role is Role.SECOND_MOMENT,
        )
        return {**net.clusters, self.cluster: replace(weights, see_IH=see_IH)}, dict(net.gates)


@dataclass(frozen=True, slots=True)
class WholeField(FieldChange):
    """A change of a field as a whole."""

    field: TextField

    def targets(self, _before: Topology) -> list[list[int]]:
        return [[self.cluster, *astuple(self.field)]]

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        return cls(**{**plain, "field": text_field(plain["field"])})


@dataclass(frozen=True, slots=True)
class AddField(WholeField):
    """Let a text cluster see an interval of lags, or a recall, as well ("see" in logs)."""

    name: ClassVar[str] = "see"
    verb: ClassVar[str] = "add"

    def provenance(self, cluster: Cluster) -> Provenance:
        before = cluster.text_fields
        if self.field in before:
            raise TopologyError(f"cluster {cluster.id} sees {self.field} already")
        return _sorted([*_kept(before), (self.field, {})])

    def brings(self) -> tuple[Field, ...]:
        return ((self.cluster, self.field),)


@dataclass(frozen=True, slots=True)
class SplitField(FieldChange):
    """Cut the interval [start, stop) of a text cluster into [start, middle) and [middle, stop)
    ("refine" in logs)."""

    start: int
    middle: int
    stop: int
    name: ClassVar[str] = "refine"
    verb: ClassVar[str] = "split"

    @property
    def whole(self) -> Interval:
        return Interval(self.start, self.stop)

    @property
    def parts(self) -> tuple[Interval, Interval]:
        return Interval(self.start, self.middle), Interval(self.middle, self.stop)

    def provenance(self, cluster: Cluster) -> Provenance:
        position = _position(cluster, self.whole)
        if not self.start < self.middle < self.stop:
            raise TopologyError(
                f"lag {self.middle} does not cut {self.whole} of cluster {cluster.id} in two"
            )
        provenance = [own for own in _kept(cluster.text_fields) if position not in own[1]]
        for part in self.parts:
            factor = {position: share(part, self.whole)}
            twin = next((k for k, (other, _) in enumerate(provenance) if other == part), None)
            if twin is None:
                provenance.append((part, factor))
            else:
                provenance[twin] = (part, {**provenance[twin][1], **factor})
        return _sorted(provenance)

    def targets(self, _before: Topology) -> list[list[int]]:
        return [list(astuple(self))]

    def brings(self) -> tuple[Field, ...]:
        return tuple((self.cluster, part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class DropField(WholeField):
    """Let a text cluster no longer see a field ("overlook" in logs)."""

    name: ClassVar[str] = "overlook"
    verb: ClassVar[str] = "leave out"
    exact: ClassVar[bool] = False

    def provenance(self, cluster: Cluster) -> Provenance:
        position = _position(cluster, self.field)
        return _sorted([own for own in _kept(cluster.text_fields) if position not in own[1]])


# ---------------------------------------------------------------------- intervals


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


def inherit(
    see_IH: Array, provenance: Provenance, before: int, embedding: int, mean: bool
) -> Array:
    """The rows of `see` after a change of a cluster that saw `before` fields.

    `mean`, for second moments: rows are copied, not scaled, and new ones start at the mean of
    their neuron, so that their first steps are no larger than those of others.
    """
    blocks_FEH = see_IH.reshape(before, embedding, see_IH.shape[1])
    # What no field before gives is new: rows of zeros, or of the mean for second moments.
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

    # fresh[:0] gives the type and the width where no field is left.
    return np.concatenate([fresh_EH[:0], *(rows(origins) for _, origins in provenance)])


def _kept(before: Sequence[TextField]) -> list[tuple[TextField, Mapping[int, float]]]:
    return [(field, {k: 1.0}) for k, field in enumerate(before)]


def _position(cluster: Cluster, field: TextField) -> int:
    before = cluster.text_fields
    if field not in before:
        raise TopologyError(f"cluster {cluster.id} does not see {field}")
    return before.index(field)


def _sorted(provenance: Provenance) -> Provenance:
    return sorted(provenance, key=lambda own: order_of(own[0]))
