"""Samples -> figures: quantiles, goodput under an objective, the knee of a sweep."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from benchmarks.load.drive import Driven
from loadtest.plan import Step
from loadtest.samples import Sample

QUANTILES = (0.5, 0.9, 0.99, 0.999)
KNEE_SHARE = 0.95
"""Of all requests, which must meet the objective up to the knee."""
CLIENT_LIMIT_CORES = 0.8
"""locust is one thread: above this much of a core, the client may be what is measured."""

Measure = Callable[[Sample], Iterable[float]]


def _one(value: float | None) -> tuple[float, ...]:
    return () if value is None else (value,)


MEASURES: dict[str, Measure] = {
    "TTFT": lambda sample: _one(sample.ttft_s),
    "inter-token": lambda sample: sample.gaps_s,
    "TPOT": lambda sample: _one(sample.tpot_s),
    "end to end": lambda sample: (sample.latency_s,),
}
"""Name -> the seconds that one sample gives."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What a streamed answer must keep: seconds to its first token, seconds per token after it."""

    ttft_s: float
    tpot_s: float

    def met(self, sample: Sample) -> bool:
        """A failed request meets nothing; one with a single token has no pace to keep."""
        if sample.error or sample.ttft_s is None:
            return False
        return sample.ttft_s <= self.ttft_s and (sample.tpot_s or 0.0) <= self.tpot_s

    def __str__(self) -> str:
        return f"TTFT <= {self.ttft_s * 1e3:g} ms and TPOT <= {self.tpot_s * 1e3:g} ms"


@dataclass(frozen=True, slots=True)
class Cell:
    """All repeats of one model at one rate."""

    model: str
    rate: float
    samples: Sequence[Sample]
    repeats: Sequence[Sequence[Sample]]
    seconds: float
    busy_s: float
    """`seconds` requests were offered in; `busy_s` passed until the last one was done."""
    server_cores: float
    server_peak_bytes: int
    client_cores: float

    @property
    def failed(self) -> int:
        return sum(1 for sample in self.samples if sample.error)

    @property
    def tokens_per_second(self) -> float:
        return sum(sample.tokens for sample in self.samples if not sample.error) / self.busy_s

    @property
    def worst_lag_s(self) -> float:
        return max(sample.lag_s for sample in self.samples)

    def share(self, objective: Objective) -> float:
        """Of the requests, how many met it."""
        return sum(map(objective.met, self.samples)) / len(self.samples)

    def goodput(self, objective: Objective) -> float:
        """Requests a second that met it."""
        return sum(map(objective.met, self.samples)) / self.seconds


def values(samples: Iterable[Sample], measure: str) -> list[float]:
    """Seconds of the answers that did not fail."""
    of = MEASURES[measure]
    return [value for sample in samples if not sample.error for value in of(sample)]


def quantiles(found: Sequence[float]) -> list[float]:
    """QUANTILES of values, each a value that was seen; NaN without any."""
    if not found:
        return [float("nan")] * len(QUANTILES)
    ordered = np.quantile(found, QUANTILES, method="inverted_cdf")
    return [float(value) for value in ordered]


def cells(driven: Driven, steps: Iterable[int]) -> list[Cell]:
    """The steps of these numbers by model and rate, in the order of the rates."""
    recording = driven.recording
    groups: dict[tuple[float, str], list[int]] = {}
    for number in steps:
        step = recording.steps[number]
        groups.setdefault((step.rate, model_of(step)), []).append(number)
    by_step: dict[int, list[Sample]] = {}
    for sample in recording.samples:
        by_step.setdefault(sample.step, []).append(sample)
    return [
        _cell(driven, model, rate, numbers, by_step)
        for (rate, model), numbers in sorted(groups.items())
    ]


def model_of(step: Step) -> str:
    """The first word of its shapes."""
    return step.shapes[0].split()[0]


def _cell(
    driven: Driven,
    model: str,
    rate: float,
    numbers: Sequence[int],
    by_step: dict[int, list[Sample]],
) -> Cell:
    spans = [driven.recording.spans_s[number] for number in numbers]
    server, client = driven.usage["server"], driven.usage["client"]
    repeats = [by_step[number] for number in numbers]
    return Cell(
        model=model,
        rate=rate,
        samples=[sample for repeat in repeats for sample in repeat],
        repeats=repeats,
        seconds=sum(driven.recording.steps[number].seconds for number in numbers),
        busy_s=sum(end - begin for begin, end in spans),
        server_cores=float(np.mean([server.cores(*span) for span in spans])),
        server_peak_bytes=max(server.peak_bytes(*span) for span in spans),
        client_cores=float(np.mean([client.cores(*span) for span in spans])),
    )


def kept(shares: Mapping[float, float]) -> list[float]:
    """Of rates and the shares that met the objective at them: the rates, rising, up to the first
    that fewer than KNEE_SHARE met."""
    return list(takewhile(lambda rate: shares[rate] >= KNEE_SHARE, sorted(shares)))


def knee(found: Sequence[Cell], objective: Objective) -> float | None:
    """The highest rate of one model's cells up to which KNEE_SHARE met the objective at every
    rate; None when the lowest rate already missed it."""
    rates = kept({cell.rate: cell.share(objective) for cell in found})
    return rates[-1] if rates else None


def client_was_the_limit(found: Iterable[Cell]) -> list[Cell]:
    """Cells in which the client took most of a core."""
    return [cell for cell in found if cell.client_cores > CLIENT_LIMIT_CORES]
