"""Anatomy and measures -> facts that a person reads, on a terminal or on the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from luminanet.topology import Kind
from training.analysis.anatomy import Anatomy, Spread
from training.analysis.similarity import Measure

BLOCKS = "▁▂▃▄▅▆▇█"
COLUMN = 22


@dataclass(frozen=True, slots=True)
class Fact:
    """`how`: in one line, how it was counted; empty where the label says it."""

    label: str
    value: str
    how: str = ""


def facts(a: Anatomy) -> tuple[Fact, ...]:
    places = a.clusters**2
    return (
        Fact("clusters", f"{a.clusters}, {a.neurons:,} neurons"),
        Fact("depth", str(a.depth), "clusters on the longest feedforward path"),
        Fact(
            "unrolled depth",
            str(a.unrolled_depth),
            "visits on the longest path through the two passes",
        ),
        Fact("parameters", f"{a.parameters:,}"),
        Fact("multiply-accumulates", f"{a.macs:,}", "of one forward: an image, or a token"),
        Fact(
            "connections",
            f"{a.connections:,} of {places:,}",
            f"{a.connections / places:.0%} of all",
        ),
        Fact("feedforward", f"{a.kinds[Kind.FEEDFORWARD]:,}", "from a lower level to a higher"),
        Fact("feedback", f"{a.kinds[Kind.FEEDBACK]:,}", "from the same level or a higher one"),
        Fact("recurrent", f"{a.kinds[Kind.RECURRENT]:,}", "from a cluster to itself"),
        Fact(
            "recurrent structures",
            str(a.recurrent_structures),
            f"strongly connected components of two clusters or more ({len(a.components)}), "
            f"and clusters that hear themselves ({a.kinds[Kind.RECURRENT]})",
        ),
        Fact(
            "largest component",
            f"{max(a.components, default=0)} clusters",
            "that all reach each other",
        ),
        Fact(
            "short cycles",
            f"{a.mutual:,} of two, {a.triangles:,} of three",
            "directed cycles through so many different clusters",
        ),
        Fact("unconnected", f"{a.alone}", "clusters without a connection to another one"),
        Fact("clusters by level", ", ".join(f"{level}: {n}" for level, n in a.levels.items())),
    )


def spreads(a: Anatomy) -> dict[str, Spread]:
    return {
        "in-degree": a.in_degree,
        "out-degree": a.out_degree,
        "width": a.width,
        "strength |gate|/n": a.strength,
    }


def lines(name: str, a: Anatomy) -> Iterator[str]:
    yield name
    for fact in facts(a):
        how = f"  ({fact.how})" if fact.how else ""
        yield from wrap(
            f"  {fact.label:<{COLUMN}}{fact.value}{how}", 100, subsequent_indent=" " * (COLUMN + 4)
        )
    yield f"  {'':<{COLUMN}}{'min':>7} {'mean':>7} {'median':>7} {'max':>7}  histogram"
    for label, spread in spreads(a).items():
        values = (spread.minimum, spread.mean, spread.median, spread.maximum)
        row = " ".join(f"{figure(value):>7}" for value in values)
        yield f"  {label:<{COLUMN}}{row}  {histogram(spread)}"


def comparison(other: str, measures: Sequence[Measure]) -> Iterator[str]:
    """One line a measure; the second column is what blind connections would give."""
    yield f"similarity to {other}: 1 is the same (in brackets: by chance)"
    for m in measures:
        chance = "" if m.chance is None else f"({m.chance:.2f})"
        yield f"  {m.name:<{COLUMN}}{m.value:>5.2f} {chance:<6}  {m.meaning}"


def figure(value: float) -> str:
    """Three significant digits, whole numbers whole."""
    return str(int(value)) if value == int(value) else f"{value:.3g}"


def histogram(spread: Spread) -> str:
    top = max((b.count for b in spread.bins), default=0)
    return "".join(BLOCKS[-(-b.count * 7 // top)] if b.count else "·" for b in spread.bins)
