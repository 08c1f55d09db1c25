"""The page about a run: tables of what its users would have felt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.load.charts import NAMES
from benchmarks.load.figures import (
    CLIENT_LIMIT_CORES,
    KNEE_SHARE,
    MEASURES,
    QUANTILES,
    Cell,
    Objective,
    client_was_the_limit,
    knee,
    quantiles,
    values,
)
from benchmarks.load.pause import PAUSE_S, Shown
from benchmarks.report import table
from loadtest.samples import Sample

MB = 1e6
WORDS = [f"p{q * 100:g}" for q in QUANTILES]
INTRODUCTION = """# Load of {date}

{provenance}
Processes that wanted a core when it began (1-minute load average): {busy:.1f}.

An open loop over HTTP on one machine, server and client sharing its cores: Poisson arrivals from a
seed, the same times and requests for both models, which take turns. All latencies are from the
*intended* time of a request. A rate is left out once half of the requests at it or a lower one
take longer than {give_up:g} s. An event of a stream holds what one call of the network drew, up to
4 tokens: `inter-token` is the wait from one event with text to the next, TPOT is (last - first) /
(tokens - 1). Quantiles are values that were seen; a p99.9 of fewer than 1,000 is the largest.
Answers have {tokens} tokens at most.

The schedule was kept: no request was sent more than {lag:.0f} ms late ({allowed:.0f} ms refuse the
report). {client}
"""
PAUSE = """The same server, stopped and continued (SIGSTOP, SIGCONT) under each loop. In the closed
one a single request meets the pause, that of its one user, and those that would have come are
never sent: its p99 does not show it."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page shows. `shapes`: the samples of the mixed steps by shape."""

    date: str
    provenance: str
    objective: Objective
    cells: Sequence[Cell]
    shapes: dict[str, Sequence[Sample]]
    mixed_rate: float
    pause: Shown
    curves_rate: float
    max_lag_s: float
    give_up_s: float
    load_average: float
    max_tokens: int

    def page(self) -> str:
        worst_s = max(cell.worst_lag_s for cell in self.cells)
        parts = [
            INTRODUCTION.format(
                date=self.date,
                provenance=self.provenance,
                tokens=self.max_tokens,
                lag=worst_s * 1e3,
                allowed=self.max_lag_s * 1e3,
                client=self._client(),
                give_up=self.give_up_s,
                busy=self.load_average,
            ),
            f"## Knee and goodput\n\nObjective: {self.objective}, for {KNEE_SHARE:.0%} of the "
            f"requests offered. {self._knees()}\n\n{self._rates()}\n![sweep](sweep.svg)\n",
            *(f"## {name}, ms\n\n{self._latency(name)}" for name in MEASURES),
            f"![curves](curves.svg)\n\n## All kinds of requests, {self.mixed_rate:g}/s together\n\n"
            f"{self._mixed()}",
            f"## A server that stops for {PAUSE_S:g} s\n\n{PAUSE}\n\n{self.pause.table()}",
        ]
        return "\n".join(parts)

    def _client(self) -> str:
        limited = client_was_the_limit(self.cells)
        if not limited:
            most = max(cell.client_cores for cell in self.cells)
            return f"The client was not the limit: it took {most:.2f} of a core at most."
        where = ", ".join(f"{NAMES[cell.model]} at {cell.rate:g}/s" for cell in limited)
        limit = f"{CLIENT_LIMIT_CORES:g} of a core"
        return f"**The client took over {limit} and may be the limit** at: {where}."

    def _knees(self) -> str:
        return " ".join(self._knee(model) for model in NAMES)

    def _knee(self, model: str) -> str:
        found = [cell for cell in self.cells if cell.model == model]
        rate = knee(found, self.objective)
        highest = max(cell.rate for cell in found)
        if rate is None:
            return f"{NAMES[model]} missed it at the lowest rate."
        at = "at or above" if rate == highest else "at"
        return f"The knee of {NAMES[model]} is {at} **{rate:g}** requests/s."

    def _rates(self) -> str:
        header = ["offered/s", "model", "requests", "failed", "within", "goodput/s", "tokens/s"]
        header += ["server cores", "server peak MB", "client cores", "latest sent ms"]
        rows = [
            [
                f"{cell.rate:g}",
                NAMES[cell.model],
                str(len(cell.samples)),
                str(cell.failed),
                f"{cell.share(self.objective):.1%}",
                f"{cell.goodput(self.objective):.1f}",
                f"{cell.tokens_per_second:,.0f}",
                f"{cell.server_cores:.2f}",
                f"{cell.server_peak_bytes / MB:.0f}",
                f"{cell.client_cores:.2f}",
                f"{cell.worst_lag_s * 1e3:.1f}",
            ]
            for cell in self.cells
        ]
        return table(header, rows)

    def _latency(self, measure: str) -> str:
        header = ["offered/s", "model", "values", *WORDS, "p50 of repeats"]
        rows = []
        for cell in self.cells:
            found = values(cell.samples, measure)
            medians = [quantiles(values(repeat, measure))[0] for repeat in cell.repeats]
            spread = " ".join(ms(median) for median in medians)
            times = [ms(value) for value in quantiles(found)]
            row = [f"{cell.rate:g}", NAMES[cell.model], f"{len(found):,}", *times, spread]
            rows.append(row)
        return table(header, rows)

    def _mixed(self) -> str:
        header = ["request", "values", "failed"]
        header += [f"done - {since} {word}" for since in ("intended", "sent") for word in WORDS[:3]]
        rows = [
            [
                name,
                str(len(samples)),
                str(sum(1 for sample in samples if sample.error)),
                *_times(sample.latency_s for sample in samples if not sample.error),
                *_times(sample.service_s for sample in samples if not sample.error),
            ]
            for name, samples in sorted(self.shapes.items())
        ]
        return table(header, rows)


def _times(found: Iterable[float]) -> list[str]:
    return [ms(value) for value in quantiles(list(found))[:3]]


def ms(seconds: float) -> str:
    """Three digits."""
    return f"{seconds * 1e3:.3g}" if seconds * 1e3 < 1000 else f"{seconds * 1e3:,.0f}"
