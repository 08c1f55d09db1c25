"""What a graph makes a runtime do, and what that costs: the words of every prediction of time.

    us = node * nodes + step * steps + kmac * thousands of multiply-accumulates + ...

Work is counted of a topology (graph_work.py) or of a graph (export/graph/count.py). The
coefficients of a target lie beside this file, by batch size, onnxruntime with one thread:

    latency.json    what evolution pays (latency.py); by `python -m benchmarks.latency`
    forms.json      which form is exported (export/network/choose.py); by benchmarks.costs

Measure again for another target.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from operator import add, attrgetter, mul
from pathlib import Path

from luminanet.errors import ArtifactError

HERE = Path(__file__).parent
LATENCY_MODEL, FORMS_MODEL = HERE / "latency.json", HERE / "forms.json"
FORMAT, TARGET = 1, "onnxruntime CPU, one thread"
CACHED = 1_000_000
"""Weights that stay in a core's cache from step to step."""


@dataclass(frozen=True, slots=True)
class Work:
    """One call. `steps`: nodes on the longest path; multiply-accumulates of one row in products
    with one matrix, with a matrix per cluster (`batched`, which runtimes cannot lay out
    beforehand) and in sums over lags (`pooled`); numbers that are gathered for one row
    (`lookups`); `weights` that are read."""

    nodes: int = 0
    steps: int = 0
    macs: int = 0
    batched: int = 0
    pooled: int = 0
    lookups: int = 0
    weights: int = 0

    def __add__(self, other: "Work") -> "Work":
        """One after the other."""
        return Work(*map(add, _numbers(self), _numbers(other)))

    @property
    def counts(self) -> tuple[float, ...]:
        """What coefficients are multiplied with, in their order."""
        streamed = max(0, self.weights - CACHED)
        thousands = (self.macs, self.batched, self.pooled, self.lookups, streamed)
        return (self.nodes, self.steps, *(n / 1000 for n in thousands))


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Nanoseconds for a batch of one size: per node, step of the longest path, and per thousand
    multiply-accumulates of one row in plain products, in batched ones and in sums over lags,
    numbers looked up for one row, and weights beyond those that a cache holds."""

    node_ns: float
    step_ns: float
    kmac_ns: float
    batched_ns: float
    pooled_ns: float
    lookup_ns: float
    streamed_ns: float

    def us(self, work: Work) -> float:
        return float(sum(map(mul, _costs(self), work.counts))) / 1000


# What evolution asks thousands of times an event: astuple would copy deeply, at 30 times the cost.
_numbers = attrgetter(*(field.name for field in fields(Work)))
_costs = attrgetter(*(field.name for field in fields(Coefficients)))
Model = Mapping[int, Coefficients]
"""Batch size -> its coefficients."""


@cache
def shipped(path: Path) -> Model:
    """The model in LATENCY_MODEL or FORMS_MODEL."""
    return read(path.read_text("utf-8"))


def read(text: str) -> Model:
    """Raises ArtifactError on anything that `write` did not write."""
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise ArtifactError(f"a cost model has format {raw['format']}; this build reads 1")
        return {int(batch): Coefficients(**found) for batch, found in raw["batches"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"not a cost model: {error}; write it with `python -m benchmarks.latency` "
            "or `python -m benchmarks.costs`"
        ) from error


def write(model: Model, target: str = TARGET) -> str:
    """Deterministic JSON; `target` says what was measured."""
    batches = {str(batch): asdict(found) for batch, found in model.items()}
    body = {"format": FORMAT, "target": target, "batches": batches}
    return json.dumps(body, indent=2) + "\n"
