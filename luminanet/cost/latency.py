"""Topology -> predicted microseconds of one decoding step: the price that evolution can pay.

That of the best one of three forms (graph_work.py), by the coefficients of latency.json (model.py).
Evolution weighs batch 1 and batch 32 alike, by the geometric mean: a share saved at either is worth
the same, whatever its microseconds.
"""

import math

from luminanet.cost.graph_work import work
from luminanet.cost.model import LATENCY_MODEL, Model, shipped
from luminanet.topology import Topology


def predict_us(topology: Topology, model: Model | None = None) -> dict[int, float]:
    """Batch size -> microseconds of a step for all its rows; raises TopologyError for images."""
    done = work(topology).values()
    chosen = shipped(LATENCY_MODEL) if model is None else model
    return {batch: min(map(found.us, done)) for batch, found in chosen.items()}


def latency_us(topology: Topology) -> float:
    """The geometric mean over the batch sizes."""
    times = predict_us(topology).values()
    return math.exp(sum(map(math.log, times)) / len(times))
