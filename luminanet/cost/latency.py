"""Topology -> predicted microseconds of one decoding step: the price that evolution can pay.

    us = node * nodes + step * steps + kmac * thousands of multiply-accumulates + ...

of the best one of three forms (graph_work.py).

latency.json holds the coefficients of one target, measured by `python -m benchmarks.latency` on
onnxruntime with one thread; measure again for another target. Evolution weighs batch 1 and batch 32
alike, by the geometric mean: a share saved at either is worth the same, whatever its microseconds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path

from luminanet.cost.graph_work import Work, work
from luminanet.errors import ArtifactError
from luminanet.topology import Topology

MEASURED = Path(__file__).with_name("latency.json")
FORMAT = 1
CACHED = 1_000_000
"""Weights that stay in a core's cache from step to step."""


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

    def us(self, done: Work) -> float:
        ns = (a * b for a, b in zip(astuple(self), counts(done), strict=True))
        return float(sum(ns)) / 1000


def counts(done: Work) -> tuple[float, ...]:
    """What the coefficients are multiplied with, in their order."""
    streamed = max(0, done.weights - CACHED)
    thousands = (done.macs, done.batched, done.pooled, done.lookups, streamed)
    return (done.nodes, done.steps, *(n / 1000 for n in thousands))


Model = Mapping[int, Coefficients]
"""Batch size -> its coefficients."""


def predict_us(topology: Topology, model: Model | None = None) -> dict[int, float]:
    """Batch size -> microseconds of a step for all its rows; raises TopologyError for images."""
    done = work(topology).values()
    chosen = measured() if model is None else model
    return {batch: min(map(found.us, done)) for batch, found in chosen.items()}


def latency_us(topology: Topology) -> float:
    """The geometric mean over the batch sizes."""
    times = predict_us(topology).values()
    return math.exp(sum(map(math.log, times)) / len(times))


@cache
def measured() -> Model:
    """The shipped model."""
    return read(MEASURED.read_text("utf-8"))


def read(text: str) -> Model:
    """Raises ArtifactError on anything that `write` did not write."""
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise ArtifactError(f"latency.json has format {raw['format']}; this build reads 1")
        return {int(batch): Coefficients(**found) for batch, found in raw["batches"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"not a latency model: {error}; write it with `python -m benchmarks.latency`"
        ) from error


def write(model: Model, target: str) -> str:
    """Deterministic JSON; `target` says what was measured."""
    batches = {str(batch): asdict(found) for batch, found in model.items()}
    body = {"format": FORMAT, "target": target, "batches": batches}
    return json.dumps(body, indent=2) + "\n"
