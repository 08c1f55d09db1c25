"""How a network's synapses are distributed, and which have changed their sign since they were born.

Weights are measured a kind at a time (see, hear, send, readout), because a mixture of normal
distributions of different widths looks heavy-tailed; the figures are means over the kinds.
Weights that are exactly zero have neither sign nor logarithm and are counted as near zero only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.attacks import SYNAPSES, synapses
from luminanet.frozen import FrozenNet
from training.evolution.evolve import Event
from training.evolution.operators.base import recorded
from training.evolution.transplant import transplant

Values = NDArray[np.float64]
NEAR_ZERO = 0.1
"""Share of its kind's root mean square below which a weight is near zero; 8 % of a normal are."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Skewness and excess kurtosis are of log|w|: 0 and 0 if it is log-normal, -1.5 and 4 if w is
    normal. `to_lognormal` and `to_normal` are Kolmogorov-Smirnov distances (0..1): of log|w| and of
    w to the normal distribution of the same mean and deviation."""

    near_zero: float
    skewness: float
    kurtosis: float
    to_lognormal: float
    to_normal: float


def shape(net: FrozenNet) -> Shape:
    kinds = [_shape(values) for values in by_kind(net) if np.any(values)]
    names = [field.name for field in fields(Shape)]
    return Shape(**{n: float(np.mean([getattr(kind, n) for kind in kinds])) for n in names})


def by_kind(net: FrozenNet) -> list[Values]:
    """In the order of SYNAPSES; within a kind in an order that depends on the topology only."""
    found = synapses(net)
    return [
        np.concatenate([np.zeros(0), *(found[key].ravel() for key in sorted(found) if key[1] == n)])
        for n in SYNAPSES
    ]


def _shape(values: Values) -> Shape:
    sizes = np.abs(values)
    near = float(np.mean(is_near_zero(values)))
    logs = np.log(sizes[sizes > 0])
    z = (logs - logs.mean()) / max(logs.std(), 1e-12)
    skewness, kurtosis = float(np.mean(z**3)), float(np.mean(z**4) - 3)
    return Shape(near, skewness, kurtosis, distance(logs), distance(values[values != 0]))


def is_near_zero(values: Values) -> NDArray[np.bool_]:
    small: NDArray[np.bool_] = np.abs(values) < NEAR_ZERO * np.sqrt(np.mean(values**2))
    return small


def faded(before: FrozenNet, after: FrozenNet) -> float:
    """Share near zero in `after` of the weights with a sign in `before`, mean over the kinds.

    Leaves out the synapses that growth made at zero, which are small because they are young.
    """
    pairs = zip(by_kind(before), by_kind(after), strict=True)
    return float(np.mean([np.mean(is_near_zero(new)[old != 0]) for old, new in pairs if old.any()]))


def distance(values: Values) -> float:
    """Kolmogorov-Smirnov distance to the normal distribution fitted to `values`."""
    z = np.sort((values - values.mean()) / max(values.std(), 1e-12))
    below = torch.special.ndtr(torch.from_numpy(z)).numpy()
    rank = np.arange(len(z) + 1) / len(z)
    return float(max(np.max(rank[1:] - below), np.max(below - rank[:-1])))


def born(start: FrozenNet, events: Iterable[Event], seed: int) -> FrozenNet:
    """Every weight of the evolved network as it was when it came to be.

    Carries the weights of `start` through the mutations that were kept, untrained, with the random
    numbers that evolution drew for new ones (evolve.py).
    """
    net = start
    for event in events:
        for k, raw in enumerate(event.mutations if event.kept else []):
            net = transplant(net, recorded(raw), seed * 1_000_003 + event.step + k)
    return net


def flipped(before: FrozenNet, after: FrozenNet) -> float:
    """Share of the weights with a sign in `before` whose sign is another in `after`."""
    pairs = [(a, synapses(after)[key]) for key, a in synapses(before).items()]
    changed = sum(int(np.sum((a != 0) & (np.sign(a) != np.sign(b)))) for a, b in pairs)
    return changed / max(1, sum(int(np.count_nonzero(a)) for a, _ in pairs))
