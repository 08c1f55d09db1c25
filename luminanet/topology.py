"""The architecture as data: clusters with receptive fields, directed connections, visiting order.

A topology and its weights are enough to run the network anywhere. The visiting order is by
`level`, then by `id`; the clusters of one level are visited together and cannot hear each other
within a pass. So a connection is

    feedforward   from a lower level to a higher one
    feedback      from the same or a higher level (another cluster)
    recurrent     from a cluster to itself

Source: arXiv 2601.19508, "Two-Pass Forward"; levels are our choice (DECISIONS.md).
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from luminanet.errors import TopologyError
from luminanet.fields import (
    Field,
    ImageInput,
    Interval,
    LagField,
    Patch,
    TextField,
    TextInput,
    View,
    is_pooled,
    patch,
    stored,
    text_field,
    text_input,
    view_of,
)

FORMAT = 1


class Activation(StrEnum):
    GELU = "gelu"
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"


class Kind(StrEnum):
    FEEDFORWARD = "feedforward"
    FEEDBACK = "feedback"
    RECURRENT = "recurrent"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Neuron Cluster: `width` neurons that see `fields` and hear their sources.

    `fields` may be empty: such a cluster only hears.
    """

    id: int
    level: int
    width: int
    fields: tuple[Patch, ...] | tuple[TextField, ...] = ()

    @property
    def patches(self) -> tuple[Patch, ...]:
        return tuple(field for field in self.fields if isinstance(field, Patch))

    @property
    def kernels(self) -> tuple[Patch, ...]:
        """The shapes and scales of its patches, wherever they lie."""
        return tuple(patch.kernel for patch in self.patches)

    @property
    def text_fields(self) -> tuple[TextField, ...]:
        return tuple(field for field in self.fields if not isinstance(field, Patch))

    @property
    def intervals(self) -> tuple[Interval, ...]:
        return tuple(field for field in self.fields if isinstance(field, Interval))


@dataclass(frozen=True, slots=True, order=True)
class Connection:
    """A directed link that carries the message of `source` to `target` (cluster ids)."""

    target: int
    source: int


@dataclass(frozen=True)
class Topology:
    """A whole architecture. Refuses to exist when it makes no sense (TopologyError).

    `channel` is the width of every message (the paper's d_hidden), `outputs` the number of
    classes (images) or the width of what the output layer reads (text).
    """

    input: ImageInput | TextInput
    channel: int
    outputs: int
    activation: Activation
    clusters: tuple[Cluster, ...]
    connections: tuple[Connection, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "clusters", tuple(sorted(self.clusters, key=lambda c: (c.level, c.id))))
        put(self, "connections", tuple(sorted(self.connections)))
        put(self, "activation", Activation(self.activation))
        self._check_shape()
        for cluster in self.clusters:
            self._check_cluster(cluster)
        self._check_connections()

    def _check_shape(self) -> None:
        if not self.clusters:
            raise TopologyError("a topology needs at least one cluster")
        if self.channel < 1 or self.outputs < 1:
            raise TopologyError("channel and outputs must be at least 1")
        if isinstance(self.input, TextInput):
            if min(self.input.vocab_size, self.input.embedding, self.input.window) < 1:
                raise TopologyError("vocab_size, embedding and window must be at least 1")
            if self.input.habits and (self.input.habits < 0 or self.input.window < 2):
                raise TopologyError("habits must not be negative, and need a window of two tokens")
            for field in self.input.echoes:
                reason = self.input.refuse(field)
                if reason:
                    raise TopologyError(f"echo {field} is {reason}")
            if len(set(self.input.echoes)) != len(self.input.echoes):
                raise TopologyError("an echo is listed twice")
            if self.input.tied and self.outputs != self.input.embedding:
                raise TopologyError(
                    f"outputs is {self.outputs}; it must equal the embedding width "
                    f"{self.input.embedding}, because the output layer is tied to it"
                )
        elif min(self.input.channels, self.input.height, self.input.width) < 1:
            raise TopologyError("an image needs at least one channel, row and column")

    def _check_cluster(self, cluster: Cluster) -> None:
        where = f"cluster {cluster.id}"
        if cluster.id < 0 or cluster.level < 0:
            raise TopologyError(f"{where}: id and level must not be negative")
        if cluster.width < 1:
            raise TopologyError(f"{where} has width {cluster.width}: it needs a neuron at least")
        if len(set(cluster.fields)) != len(cluster.fields):
            raise TopologyError(f"{where} lists a field twice")
        for field in cluster.fields:
            reason = self.input.refuse(field)
            if reason:
                raise TopologyError(f"{where}: field {field} is {reason}")

    def _check_connections(self) -> None:
        ids = {cluster.id for cluster in self.clusters}
        if len(ids) != len(self.clusters):
            raise TopologyError("two clusters have the same id")
        if len(set(self.connections)) != len(self.connections):
            raise TopologyError("a connection is listed twice")
        for connection in self.connections:
            for end in (connection.source, connection.target):
                if end not in ids:
                    raise TopologyError(f"{connection} names cluster {end}, which is not there")

    # ------------------------------------------------------------------ questions

    @cached_property
    def by_id(self) -> dict[int, Cluster]:
        return {cluster.id: cluster for cluster in self.clusters}

    @cached_property
    def sources(self) -> dict[int, tuple[int, ...]]:
        """Cluster id -> the ids it hears, in ascending order."""
        heard: dict[int, list[int]] = {cluster.id: [] for cluster in self.clusters}
        for connection in self.connections:
            heard[connection.target].append(connection.source)
        return {target: tuple(found) for target, found in heard.items()}

    @cached_property
    def level_views(self) -> dict[int, View]:
        """Level -> everything that any cluster of it sees."""
        fields: dict[int, list[Field]] = {cluster.level: [] for cluster in self.clusters}
        for cluster in self.clusters:
            fields[cluster.level] += cluster.fields
        return {level: view_of(found) for level, found in fields.items()}

    @cached_property
    def scales(self) -> tuple[int, ...]:
        """Of images: the `pool` of all patches, rising; the levels of the image pyramid to make."""
        return tuple(sorted({p.pool for c in self.clusters for p in c.patches})) or (1,)

    @cached_property
    def choirs(self) -> dict[int, int]:
        """Cluster id -> the first cluster of its level that hears the same sources."""
        first: dict[tuple[int, tuple[int, ...]], int] = {}
        return {c.id: first.setdefault((c.level, self.sources[c.id]), c.id) for c in self.clusters}

    def cluster(self, id: int) -> Cluster:
        try:
            return self.by_id[id]
        except KeyError:
            raise TopologyError(f"there is no cluster {id}: ids are {sorted(self.by_id)}") from None

    def kind(self, connection: Connection) -> Kind:
        if connection.source == connection.target:
            return Kind.RECURRENT
        lower = self.cluster(connection.source).level < self.cluster(connection.target).level
        return Kind.FEEDFORWARD if lower else Kind.FEEDBACK

    @cached_property
    def pooled(self) -> frozenset[LagField]:
        """The fields of more than one lag that clusters see."""
        return frozenset(f for c in self.clusters for f in c.fields if is_pooled(f))

    @property
    def pooled_reach(self) -> int:
        """How many of the newest tokens are in one of those."""
        return max((field.reach for field in self.pooled), default=0)

    @property
    def readouts(self) -> int:
        """How many numbers every cluster gives to the output: `outputs`, and one an echo."""
        echoes = self.input.echoes if isinstance(self.input, TextInput) else ()
        return self.outputs + len(echoes)

    def inputs(self, cluster: Cluster) -> int:
        """How many numbers the cluster's receptive field has."""
        return sum(self.input.inputs(field) for field in cluster.fields)

    def cluster_parameters(self, cluster: Cluster) -> int:
        return cluster.width * (self.inputs(cluster) + 1 + 2 * self.channel + self.readouts)

    @property
    def parameters(self) -> int:
        """All learned numbers: clusters, one gate per connection, and the input/output layers."""
        if isinstance(self.input, TextInput):
            tables = self.input.embedding + (0 if self.input.tied else self.outputs)
            norms = 2 * (self.input.embedding + self.outputs)
            habits = self.input.embedding * (self.input.habits + self.outputs)
            shared = self.input.vocab_size * (tables + len(self.input.echoes)) + norms
            shared += habits if self.input.habits else 0
        else:
            shared = self.outputs
        return shared + len(self.connections) + sum(map(self.cluster_parameters, self.clusters))

    def count(self, kind: Kind) -> int:
        return sum(self.kind(connection) is kind for connection in self.connections)

    @property
    def depth(self) -> int:
        """Clusters on the longest feedforward path."""
        depth: dict[int, int] = {}
        for cluster in self.clusters:
            below = [
                depth[source]
                for source in self.sources[cluster.id]
                if self.cluster(source).level < cluster.level
            ]
            depth[cluster.id] = 1 + max(below, default=0)
        return max(depth.values())

    def summary(self) -> str:
        kinds = ", ".join(f"{self.count(kind)} {kind}" for kind in Kind)
        means = " and ".join(f"{scale}x{scale}" for scale in self.scales if scale > 1)
        return (
            f"{len(self.clusters)} clusters on depth {self.depth}, "
            f"{f'some see {means} means, ' if means else ''}"
            f"{len(self.connections)} connections ({kinds}), "
            f"{self.parameters / 1e6:.2f} M parameters"
        )

    # ------------------------------------------------------------------ change and storage

    def having(self, clusters: Iterable[Cluster], connections: Iterable[Connection]) -> "Topology":
        return replace(self, clusters=tuple(clusters), connections=tuple(connections))

    def to_json(self) -> str:
        """Deterministic JSON, one cluster a line, readable by `from_json`."""
        clusters = ",\n    ".join(map(_line, self.clusters))
        connections = ", ".join(json.dumps([c.source, c.target]) for c in self.connections)
        domain = "text" if isinstance(self.input, TextInput) else "image"
        return (
            f'{{\n  "format": {FORMAT},\n  "domain": "{domain}",\n'
            f'  "input": {json.dumps(asdict(self.input))},\n'
            f'  "channel": {self.channel},\n  "outputs": {self.outputs},\n'
            f'  "activation": "{self.activation}",\n'
            f'  "clusters": [\n    {clusters}\n  ],\n  "connections": [{connections}]\n}}\n'
        )

    @staticmethod
    def from_json(text: str) -> "Topology":
        """Raises TopologyError on anything that is not a topology of this format."""
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw["format"] != FORMAT:
                raise TopologyError(
                    f"topology has format {raw['format']}; this build reads {FORMAT}: "
                    "freeze the checkpoint again with this version"
                )
            is_text = raw["domain"] == "text"
            return Topology(
                input=text_input(raw["input"]) if is_text else ImageInput(**raw["input"]),
                channel=raw["channel"],
                outputs=raw["outputs"],
                activation=Activation(raw["activation"]),
                clusters=tuple(_cluster(c, is_text) for c in raw["clusters"]),
                connections=tuple(Connection(source=s, target=t) for s, t in raw["connections"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TopologyError(f"not a topology: {type(error).__name__}: {error}") from error


def _line(cluster: Cluster) -> str:
    return json.dumps(asdict(cluster) | {"fields": list(map(stored, cluster.fields))})


def _cluster(raw: dict[str, Any], is_text: bool) -> Cluster:
    fields: Any = [text_field(field) if is_text else patch(field) for field in raw["fields"]]
    return Cluster(raw["id"], raw["level"], raw["width"], tuple(fields))
