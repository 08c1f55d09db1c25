"""End points: how alike the networks are in which two ways to choose a topology end.

Two policies that end in the same network cannot be told apart by its quality: what is left between
them is when they arrived, and the seed. So their comparison is not reported where the widths are
the same and more than SAME of the connections. Measures are Jaccard indices that look at no cluster
ids (training/analysis/similarity.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from benchmarks.report import table
from luminanet.topology import Topology
from training.analysis.similarity import field_of, jaccard, neurons, pairs, role_of

SAME = 0.8
HEADER = ("compared", "seeds", "widths", "fields", "connections", "difference")


@dataclass(frozen=True, slots=True)
class End:
    """Where a run ended: its network, and a figure of it in the unit of the report."""

    topology: Topology
    figure: float


Ends = Mapping[str, Mapping[int, End]]
"""Preset -> seed -> where it ended."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Of two topologies, each measure 1 for equals: how many clusters have a width, how many
    neurons see a field, how many connections lead from one role (field and level) to another."""

    widths: float
    fields: float
    connections: float

    @property
    def is_same(self) -> bool:
        return self.widths == 1 and self.connections > SAME


def distance(a: Topology, b: Topology) -> Distance:
    widths = (Counter(cluster.width for cluster in t.clusters) for t in (a, b))
    return Distance(
        widths=jaccard(*widths),
        fields=jaccard(neurons(a, field_of), neurons(b, field_of)),
        connections=jaccard(pairs(a, role_of), pairs(b, role_of)),
    )


def rows(ends: Ends, compared: Sequence[tuple[str, str]], digits: int) -> list[list[str]]:
    """One for every two presets that have a seed in common; the difference is the first less the
    second, paired by seed."""
    found = []
    for a, b in compared:
        ours, theirs = ends.get(a, {}), ends.get(b, {})
        if seeds := sorted(ours.keys() & theirs.keys()):
            distances = [distance(ours[s].topology, theirs[s].topology) for s in seeds]
            gains = [ours[s].figure - theirs[s].figure for s in seeds]
            measures = [(d.widths, d.fields, d.connections) for d in distances]
            shown = (f"{mean(column):.2f}" for column in zip(*measures, strict=True))
            is_same = all(d.is_same for d in distances)
            told = "not reported: the same network" if is_same else _spread(gains, digits)
            found.append([f"{a}, {b}", str(len(seeds)), *shown, told])
    return found


def _spread(values: Sequence[float], digits: int) -> str:
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):+.{digits}f}{deviation}"


def section(ends: Ends, compared: Sequence[tuple[str, str]], figure: str, digits: int) -> str:
    """The table with its words, or nothing where nothing can be compared. `figure` says what the
    difference is of."""
    if not (found := rows(ends, compared, digits)):
        return ""
    return f"""
## End points

How alike two ways to choose a topology end (Jaccard index, 1 for the same), mean over the seeds,
and the difference of {figure}, paired by seed. Where widths are the same and more than {SAME:.0%}
of the connections, in every seed, it is not reported: both ended in the same network.

{table(list(HEADER), found)}"""
