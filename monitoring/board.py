"""What a dashboard is: panels of PromQL, each with a unit, a question it answers and a limit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Literal

COLUMNS = 24
WINDOW = "$__rate_interval"
"""Grafana's own variable: a window of at least four scrapes."""
LOW, HIGH = " low", " high"
"""Ends of the names of the two series between which a band is drawn."""


class Unit(StrEnum):
    """Grafana's names of units."""

    SECONDS = "s"
    BYTES = "decbytes"
    TIMES = "suffix: ×"
    SHARE = "percentunit"
    RATE = "suffix: /s"
    COUNT = "short"


class Kind(Enum):
    LINES = auto()
    HEAT = auto()
    """A histogram over time; its query gives cumulative buckets with the label `le`."""
    NUMBER = auto()
    BARS = auto()


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and the name of its series: {{label}} stands for the value of a label."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Where it stops being good: below a limit is good, or above."""

    value: float
    good: Literal["below", "above"] = "below"


@dataclass(frozen=True, slots=True)
class Panel:
    """One question. Widths are of 24 columns."""

    title: str
    description: str
    unit: Unit
    queries: Sequence[Query]
    kind: Kind = Kind.LINES
    limit: Limit | None = None
    width: int = 12
    height: int = 8

    def __post_init__(self) -> None:
        assert self.title
        assert self.description.endswith(".")
        assert self.queries
        assert 0 < self.width <= COLUMNS
        assert self.kind is not Kind.HEAT or len(self.queries) == 1
        names = {query.legend for query in self.queries}
        assert all(q.legend.removesuffix(HIGH) + LOW in names for q in self.bands)

    @property
    def bands(self) -> list[Query]:
        """The upper ends of bands."""
        return [query for query in self.queries if query.legend.endswith(HIGH)]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: `name` is that of its file and the end of its address."""

    name: str
    title: str
    description: str
    panels: Sequence[Panel]

    def __post_init__(self) -> None:
        titles = [panel.title for panel in self.panels]
        assert len(set(titles)) == len(titles), "two panels with one title"


def with_interval(name: str, metric: str, selector: str = "") -> list[Query]:
    """A recorded ratio with the interval around it."""
    ends = {"ratio": "", "low": LOW, "high": HIGH}
    return [Query(f"{metric}:{part}{selector}", name + end) for part, end in ends.items()]


def quantiles(metric: str, *by: str, where: str = "") -> list[Query]:
    """The recorded quantiles of a histogram, by such labels: the median, p90 and p99."""
    name = ", ".join(f"{{{{{label}}}}}" for label in by)
    return [
        Query(f'luminanet:{metric}:quantile{{quantile="{q}"{where}}}', f"{name}, p{100 * q:g}")
        for q in (0.5, 0.9, 0.99)
    ]


def heat(metric: str, selector: str) -> Query:
    """How many observations fell into each bucket, over time."""
    return Query(f"sum by (le) (increase({metric}_bucket{{{selector}}}[{WINDOW}]))", "{{le}}")


def legend(query: Query, labels: dict[str, str]) -> str:
    """The name of a series, as Grafana writes it."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), query.legend)
