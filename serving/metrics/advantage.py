"""LuminaNet beside the baseline, from pairs: the same request computed by both of them.

A pair holds the times of one request on either side. Ratios are the baseline's quantile over that
of LuminaNet, above 1 where LuminaNet is faster; intervals are 95 % of a bootstrap that draws whole
pairs, as two histograms, which know nothing of pairs, could not give them.

Shape legend: N pairs, R resamples, T times of a pair, Q quantiles.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from threading import Lock
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

QUANTILES = {0.5: 20, 0.99: 200}
"""Quantile -> pairs that it needs at least; with fewer it is NaN."""
FEWEST_FOR_THROUGHPUT = 20
LAST_PAIRS = 1000
RESAMPLES = 400
INTERVAL = (0.025, 0.975)
SEED = 0
REFRESH_S = 5.0
"""A scrape computes again at most as often, and only when there are new pairs."""


class Times(NamedTuple):
    """Of one request on one side, in seconds; the names are those of the label `quantity`."""

    time_to_first_token: float
    time_per_output_token: float
    request_duration: float


class Pair(NamedTuple):
    """The same request with the same number of tokens, on both sides in the same company."""

    luminanet: Times
    baseline: Times


class Interval(NamedTuple):
    """A ratio and where it lies in 95 of 100 cases; NaN where there are too few pairs."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


class Advantage(NamedTuple):
    """What pairs say: ratios of each quantity by quantile, and that of tokens per second."""

    ratios: dict[str, dict[float, Interval]]
    throughput: Interval
    samples: int


def advantage(pairs: Sequence[Pair], seed: int = SEED) -> Advantage:
    """Deterministic: the same pairs and seed give the same intervals."""
    count = len(pairs)
    if not count:
        none = {name: dict.fromkeys(QUANTILES, UNKNOWN) for name in Times._fields}
        return Advantage(none, UNKNOWN, 0)
    picks_RN = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    ours_TN = np.array([pair.luminanet for pair in pairs]).T
    theirs_TN = np.array([pair.baseline for pair in pairs]).T
    ratios = {
        name: _of_quantiles(ours_N, theirs_N, picks_RN)
        for name, ours_N, theirs_N in zip(Times._fields, ours_TN, theirs_TN, strict=True)
    }
    last = Times._fields.index("request_duration")
    return Advantage(ratios, _of_throughput(ours_TN[last], theirs_TN[last], picks_RN), count)


def _of_quantiles(
    ours_N: NDArray[np.float64], theirs_N: NDArray[np.float64], picks_RN: NDArray[np.int64]
) -> dict[float, Interval]:
    asked = [q for q, fewest in QUANTILES.items() if len(ours_N) >= fewest]
    found = dict.fromkeys(QUANTILES, UNKNOWN)
    if asked:
        value_Q = np.quantile(theirs_N, asked) / np.quantile(ours_N, asked)
        drawn_QR = np.quantile(theirs_N[picks_RN], asked, axis=1) / np.quantile(
            ours_N[picks_RN], asked, axis=1
        )
        for quantile, value, drawn_R in zip(asked, value_Q, drawn_QR, strict=True):
            found[quantile] = _interval(value, drawn_R)
    return found


def _of_throughput(
    ours_N: NDArray[np.float64], theirs_N: NDArray[np.float64], picks_RN: NDArray[np.int64]
) -> Interval:
    """Tokens per second of all pairs together: both sides made the same tokens, so the ratio is
    that of the times."""
    if len(ours_N) < FEWEST_FOR_THROUGHPUT:
        return UNKNOWN
    drawn_R = theirs_N[picks_RN].sum(axis=1) / ours_N[picks_RN].sum(axis=1)
    return _interval(theirs_N.sum() / ours_N.sum(), drawn_R)


def _interval(value: float, drawn_R: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn_R, INTERVAL)
    return Interval(float(value), float(low), float(high))


class Pairs:
    """The last pairs. `add` is cheap; `advantage` may be asked from any thread."""

    def __init__(self, last: int = LAST_PAIRS) -> None:
        self._pairs: deque[Pair] = deque(maxlen=last)
        self._added = self._known = 0
        self._found = advantage(())
        self._at_s = float("-inf")
        self._lock = Lock()

    def add(self, pair: Pair) -> None:
        self._pairs.append(pair)
        self._added += 1

    def clear(self) -> None:
        """Forgets them all, for networks that are others from now on."""
        with self._lock:
            self._pairs.clear()
            self._added = self._known = 0
            self._found = advantage(())

    def all(self) -> list[Pair]:
        return list(self._pairs)

    def advantage(self) -> Advantage:
        """Of all pairs kept, or what was found less than REFRESH_S ago."""
        with self._lock:
            now_s, added = perf_counter(), self._added
            if added != self._known and now_s - self._at_s >= REFRESH_S:
                self._found = advantage(self.all())
                self._known, self._at_s = added, now_s
            return self._found


class AdvantageCollector(Collector):
    """The families of an advantage, computed when they are asked for.

    Those with the label `quantile` are of the type summary, whose label that is.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        found = self._pairs.advantage()
        for end, text, place in ENDS:
            name = f"luminanet_advantage_ratio{end}"
            metric = Metric(
                name, f"Baseline's quantile over LuminaNet's, same requests{text}", "summary"
            )
            for quantity, by_quantile in found.ratios.items():
                for quantile, interval in by_quantile.items():
                    labels = {"quantity": quantity, "quantile": str(quantile)}
                    metric.add_sample(name, labels, interval[place])
            yield metric
        for end, text, place in ENDS:
            name = f"luminanet_throughput_ratio{end}"
            metric = Metric(
                name, f"LuminaNet's tokens per second over the baseline's{text}", "gauge"
            )
            metric.add_sample(name, {}, found.throughput[place])
            yield metric
        yield _samples(
            "luminanet_advantage_samples", [{"quantity": q} for q in found.ratios], found
        )
        yield _samples("luminanet_throughput_samples", [{}], found)


ENDS = (
    ("", "", 0),
    ("_low", ", lower end of a 95 % interval", 1),
    ("_high", ", upper end of a 95 % interval", 2),
)


def _samples(name: str, labels: Sequence[dict[str, str]], found: Advantage) -> Metric:
    metric = Metric(name, "Pairs behind the ratio", "gauge")
    for each in labels:
        metric.add_sample(name, each, found.samples)
    return metric
