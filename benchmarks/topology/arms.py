"""Topologies of images at equal multiply-accumulates, by what they choose.

Every arm differs from REFERENCE, a grid of 24 patches on two levels where each cluster hears all,
in one choice. What is drawn by chance tells how much the choice matters, what is set by hand where
the ends lie. The width of the clusters is what fits into the budget, so no arm is larger.
Source of the question: random draws as the yardstick of a search space, as in Li and Talwalkar,
2019, arXiv 1902.07638.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from luminanet.cost.macs import macs
from luminanet.errors import ConfigError
from luminanet.fields import ImageInput, Patch
from luminanet.topology import Activation, Cluster, Connection, Kind, Topology

MACS = 950_000
"""A budget that binds: the densest network of evolution's presets has 1,444,544."""
MAX_PARAMETERS = 1_200_000
CLUSTERS, CHANNEL = 24, 64
COLOURS = (0, 1, 2)
SIDE = 32
REFERENCE = "grid, dense, two levels"
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Arm:
    """One topology to train; `choice` is what it varies, `draw` numbers those made by chance."""

    choice: str
    name: str
    topology: Topology
    draw: int | None = None

    @property
    def folder(self) -> str:
        words = self.name if self.draw is None else f"{self.name} {self.draw}"
        return "-".join(words.replace(",", "").replace("/", "_").split())


def arms(draws: int) -> list[Arm]:
    """Those by hand, and `draws` by chance for each choice."""
    named = [Arm(choice, name, make()) for choice, name, make in NAMED]
    drawn = [
        Arm(choice, f"{choice} by chance", fitted(make(np.random.default_rng([k, draw]))), draw)
        for k, (choice, make) in enumerate(DRAWN.items())
        for draw in range(draws)
    ]
    return named + drawn


# ---------------------------------------------------------------------- a budget that is filled


def fitted(topology: Topology, budget: int = MACS) -> Topology:
    """The same with all widths scaled by one factor, the largest that the budget allows. Raises
    ConfigError when not even narrow clusters fit."""
    low, high = 0.0, 64.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _cost(topology, middle) <= budget else (low, middle)
    found = _scaled(topology, low)
    if macs(found) > budget:
        raise ConfigError(f"{len(topology.clusters)} clusters do not fit into {budget} MACs")
    return found


def _cost(topology: Topology, factor: float) -> int:
    return macs(_scaled(topology, factor))


def _scaled(topology: Topology, factor: float) -> Topology:
    def scaled(cluster: Cluster) -> Cluster:
        return replace(cluster, width=max(1, int(cluster.width * factor)))

    return topology.having([scaled(c) for c in topology.clusters], topology.connections)


# ---------------------------------------------------------------------- parts


def grid(size: int = 8, pool: int = 1) -> list[Patch]:
    """All patches of one size, side by side, on means of `pool` x `pool` pixels."""
    spots = range(0, SIDE // pool - size + 1, size)
    return [Patch(COLOURS, top, left, size, size, pool) for top in spots for left in spots]


HEARD: dict[str, Sequence[Kind]] = {
    "dense": tuple(Kind),
    "feedforward": [Kind.FEEDFORWARD],
    "none": [],
}


def network(
    fields: Sequence[Patch],
    levels: Sequence[int],
    connections: str | Sequence[Connection] = "dense",
    channel: int = CHANNEL,
    widths: Sequence[int] | None = None,
) -> Topology:
    """A cluster for each field, on its level; `connections` is dense, feedforward or none, or
    what is listed. Widths count as shares until they are `fitted`."""
    given = widths or [32] * len(fields)
    clusters = tuple(
        Cluster(i, level, width, (field,))
        for i, (field, level, width) in enumerate(zip(fields, levels, given, strict=True))
    )
    shape = ImageInput(len(COLOURS), SIDE, SIDE)
    alone = Topology(shape, channel, 10, Activation.GELU, clusters)
    if not isinstance(connections, str):
        return alone.having(clusters, connections)
    every = [Connection(source=s.id, target=t.id) for t in clusters for s in clusters]
    heard = HEARD[connections]
    return alone.having(clusters, [link for link in every if alone.kind(link) in heard])


TWO = [0] * 16 + [1] * 8
"""Levels of the reference: 16 patches below, every second one again above."""
GRID = [*grid(), *grid()[::2]]


def by_hand(
    fields: Sequence[Patch] = GRID, levels: Sequence[int] = TWO, connections: str = "dense"
) -> Callable[[], Topology]:
    return lambda: fitted(network(fields, levels, connections))


def sized(count: int, channel: int) -> Callable[[], Topology]:
    """So many clusters over the grid, two thirds of them below, with messages of this width."""
    lower = round(count * 2 / 3)
    fields = [grid()[i % 16] for i in range(count)]
    levels = [int(i >= lower) for i in range(count)]
    return lambda: fitted(network(fields, levels, channel=channel))


def scales(full: int, half: int, quarter: int) -> list[Patch]:
    """Grid patches of the image, of its 2x2 means (in turn) and thumbnails of the whole."""
    fine, middle, thumbnail = grid(), grid(pool=2), grid(pool=4)
    return [
        *(fine[i * len(fine) // max(1, full) % 16] for i in range(full)),
        *(middle[i % len(middle)] for i in range(half)),
        *(thumbnail[0] for _ in range(quarter)),
    ]


SPREAD = [int(i % 3 == 2) for i in range(CLUSTERS)]
"""Levels that put a third of every kind of field above."""
FOUR = [i * 4 // CLUSTERS for i in range(CLUSTERS)]
NAMED: list[tuple[str, str, Callable[[], Topology]]] = [
    ("reference", REFERENCE, by_hand()),
    ("connections", "unconnected", by_hand(connections="none")),
    ("connections", "feedforward, one pass", by_hand(connections="feedforward")),
    ("scale", "scales 8/8/8", by_hand(scales(8, 8, 8), SPREAD)),
    ("scale", "scales 8/8/8, feedforward", by_hand(scales(8, 8, 8), SPREAD, "feedforward")),
    ("levels", "one level", by_hand(levels=[0] * 24)),
    ("levels", "four levels", by_hand(levels=FOUR)),
    ("levels", "four levels, feedforward", by_hand(levels=FOUR, connections="feedforward")),
    ("split of the budget", "12 clusters", sized(12, CHANNEL)),
    ("split of the budget", "48 clusters", sized(48, CHANNEL)),
    ("split of the budget", "messages of 16", sized(CLUSTERS, 16)),
    ("split of the budget", "messages of 160", sized(CLUSTERS, 160)),
]


# ---------------------------------------------------------------------- by chance


def wiring(rng: Rng) -> Topology:
    """64 of the 576 connections."""
    every = network(GRID, TWO).connections
    chosen = rng.choice(len(every), 64, replace=False)
    return network(GRID, TWO, [every[i] for i in sorted(chosen)])


def place(rng: Rng) -> Topology:
    """8x8 windows anywhere."""
    return network([_window(rng, 8, 1) for _ in GRID], TWO)


def shape(rng: Rng) -> Topology:
    """Rectangles of 4 to 16 rows and columns anywhere."""
    found = []
    for _ in GRID:
        height, width = (int(n) for n in rng.integers(4, 17, 2))
        top, left = (int(rng.integers(0, SIDE - n + 1)) for n in (height, width))
        found.append(Patch(COLOURS, top, left, height, width))
    return network(found, TWO)


def scale(rng: Rng) -> Topology:
    """8x8 windows anywhere, each of the image, of its 2x2 means or of its 4x4 means."""
    return network([_window(rng, 8, int(rng.choice([1, 2, 4]))) for _ in GRID], SPREAD)


def depth(rng: Rng) -> Topology:
    """A level from 0 to 3 for each cluster."""
    return network(GRID, [int(n) for n in rng.integers(0, 4, CLUSTERS)])


def budget(rng: Rng) -> Topology:
    """8 to 48 clusters, messages of 8 to 160 numbers."""
    count, channel = int(rng.integers(8, 49)), int(2 ** rng.uniform(3, 7.3))
    return sized(count, channel)()


def widths(rng: Rng) -> Topology:
    """Shares of the neurons from one to eight."""
    return network(GRID, TWO, widths=[int(64 * 2 ** rng.uniform(0, 3)) for _ in GRID])


def _window(rng: Rng, size: int, pool: int) -> Patch:
    top, left = (int(n) for n in rng.integers(0, SIDE // pool - size + 1, 2))
    return Patch(COLOURS, top, left, size, size, pool)


DRAWN: dict[str, Callable[[Rng], Topology]] = {
    "wiring": wiring,
    "place": place,
    "shape": shape,
    "scale": scale,
    "levels": depth,
    "split of the budget": budget,
    "widths": widths,
}
