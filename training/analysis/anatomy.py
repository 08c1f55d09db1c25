"""FrozenNet -> Anatomy: what a network looks like, in numbers.

Shape legend: N clusters; in every N x N matrix rows are targets and columns sources, in the
visiting order.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luminanet.cost.macs import macs
from luminanet.frozen import FrozenNet
from luminanet.schedule import Visit, schedule
from luminanet.topology import Connection, Kind, Topology

Links = NDArray[np.bool_]
BINS = 12


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values are in [low, high); the last bin holds its `high` too."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution; `bins` cover it without a gap. All zero when there are no values."""

    minimum: float
    mean: float
    median: float
    maximum: float
    bins: tuple[Bin, ...]

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        if not values:
            return Spread(0, 0, 0, 0, ())
        counts, edges = np.histogram(values, _edges(values))
        bins = zip(edges.tolist(), edges[1:].tolist(), counts.tolist(), strict=False)
        return Spread(
            minimum=min(values),
            mean=math.fsum(values) / len(values),
            median=float(np.median(values)),
            maximum=max(values),
            bins=tuple(Bin(*found) for found in bins),
        )


def _edges(values: Sequence[float]) -> list[float]:
    """Whole numbers share a bin only when there are too many of them."""
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values):
        step = math.ceil((high - low + 1) / BINS)
        return [low + k * step for k in range(math.ceil((high - low + 1) / step) + 1)]
    steps: list[float] = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    return steps


@dataclass(frozen=True, slots=True)
class Anatomy:
    clusters: int
    neurons: int
    depth: int
    """Clusters on the longest feedforward path."""
    unrolled_depth: int
    """Visits on the longest path through the two passes, as an exported graph computes them."""
    parameters: int
    macs: int
    """Multiply-accumulates of one forward: per image, or per token."""
    kinds: dict[Kind, int]
    mutual: int
    """Pairs of clusters that hear each other."""
    triangles: int
    """Directed cycles through three clusters."""
    alone: int
    """Clusters that no connection joins with another one."""
    components: tuple[int, ...]
    """Clusters in each strongly connected component of two or more, the largest first."""
    levels: dict[int, int]
    """Level -> clusters on it."""
    in_degree: Spread
    out_degree: Spread
    width: Spread
    strength: Spread

    @property
    def connections(self) -> int:
        return sum(self.kinds.values())

    @property
    def recurrent_structures(self) -> int:
        """Strongly connected components of two clusters or more, and clusters that hear
        themselves."""
        return len(self.components) + self.kinds[Kind.RECURRENT]


def measure(net: FrozenNet) -> Anatomy:
    topology = net.topology
    heard_NN = matrix(topology)
    components = strong_components(heard_NN)
    return Anatomy(
        clusters=len(topology.clusters),
        neurons=sum(c.width for c in topology.clusters),
        depth=topology.depth,
        unrolled_depth=unrolled_depth(topology),
        parameters=topology.parameters,
        macs=macs(topology),
        kinds={kind: topology.count(kind) for kind in Kind},
        mutual=cycles(heard_NN, 2),
        triangles=cycles(heard_NN, 3),
        alone=int((~(others(heard_NN) | others(heard_NN).T).any(1)).sum()),
        components=tuple(sorted((len(c) for c in components if len(c) > 1), reverse=True)),
        levels=dict(sorted(Counter(c.level for c in topology.clusters).items())),
        in_degree=Spread.of(heard_NN.sum(1).tolist()),
        out_degree=Spread.of(heard_NN.sum(0).tolist()),
        width=Spread.of([c.width for c in topology.clusters]),
        strength=Spread.of(list(strengths(net).values())),
    )


def strengths(net: FrozenNet) -> dict[Connection, float]:
    """|gate| / n, where n is how many the target hears: the weight of a message in its sum."""
    sources = net.topology.sources
    return {c: abs(gate) / len(sources[c.target]) for c, gate in net.gates.items()}


def matrix(topology: Topology) -> Links:
    at = {cluster.id: k for k, cluster in enumerate(topology.clusters)}
    heard_NN = np.zeros((len(at), len(at)), bool)
    for connection in topology.connections:
        heard_NN[at[connection.target], at[connection.source]] = True
    return heard_NN


def others(heard_NN: Links) -> Links:
    """Without the clusters that hear themselves."""
    return heard_NN & ~np.eye(len(heard_NN), dtype=bool)


def unrolled_depth(topology: Topology) -> int:
    depth: dict[Visit, int] = {}
    for visit, sources in schedule(topology).items():
        depth[visit] = 1 + max((depth[source] for source in sources), default=0)
    return max(depth.values())


def strong_components(heard_NN: Links) -> list[list[int]]:
    """Clusters that reach each other, by Warshall's transitive closure; a lone one is its own."""
    reach_NN = heard_NN | np.eye(len(heard_NN), dtype=bool)
    for k in range(len(reach_NN)):
        reach_NN |= np.outer(reach_NN[:, k], reach_NN[k])
    both_NN = reach_NN & reach_NN.T
    return [np.flatnonzero(row).tolist() for k, row in enumerate(both_NN) if row.argmax() == k]


def cycles(heard_NN: Links, length: int) -> int:
    """Directed cycles through exactly two or three different clusters: trace(A^length) / length
    with the diagonal of A taken out (a closed walk of four may visit a cluster twice)."""
    assert length in (2, 3)
    others_NN = others(heard_NN).astype(np.int64)
    return int(np.trace(np.linalg.matrix_power(others_NN, length))) // length
