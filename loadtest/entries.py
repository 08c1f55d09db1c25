"""A sample -> locust's own statistics, so that its tables, exports and web page show tokens.

The request itself counts in locust's totals. What is derived of it has entries of its own beside
them, with a type for a name (TTFT, ITL, ..), and does not count as a request.
"""

from typing import Any

from locust import stats
from locust.env import Environment
from locust.exception import CatchResponseError

from loadtest.samples import Sample

PERCENTILES = (0.5, 0.9, 0.99, 0.999)
REQUEST = "POST"


def three_digits(milliseconds: float) -> float:
    """The key of locust's histogram: three digits instead of whole milliseconds, since a token
    takes less than one."""
    return float(f"{milliseconds:.3g}")


def configure() -> None:
    """Finer buckets, and the percentiles that are shown."""
    stats.bucket_response_time = three_digits  # type: ignore[assignment]
    stats.PERCENTILES_TO_CHART = list(PERCENTILES[:3])
    stats.PERCENTILES_TO_STATISTICS = list(PERCENTILES)
    stats.PERCENTILES_TO_REPORT = [*PERCENTILES, 1.0]


def derived(sample: Sample) -> list[tuple[str, float]]:
    """(type, value) of all that is told beside the request; times in milliseconds."""
    times = [
        ("TTFT", sample.ttft_s),
        *(("ITL", gap) for gap in sample.gaps_s),
        ("TPOT", sample.tpot_s),
        ("INTENDED", sample.latency_s),
    ]
    told = [(kind, value * 1e3) for kind, value in times if value is not None]
    if sample.tokens_per_second is not None:
        told.append(("tokens/s", sample.tokens_per_second))
    return told


def tell(environment: Environment, sample: Sample) -> None:
    """One request with its derived figures; those of a failed one are left out."""
    environment.events.request.fire(
        request_type=REQUEST,
        name=sample.shape,
        response_time=sample.service_s * 1e3,
        response_length=0,
        exception=CatchResponseError(sample.error) if sample.error else None,
        context={},
    )
    if not sample.error:
        for kind, value in derived(sample):
            environment.stats.entries[(sample.shape, kind)].log(value, 0)  # type: ignore[arg-type]


def column(q: float) -> str:
    """The key of a percentile in a row."""
    return f"p{q * 1000:g}"


def rows(environment: Environment) -> list[dict[str, Any]]:
    """The derived entries as a table for the web page, by kind."""
    found = sorted(environment.stats.entries.items(), key=lambda item: (item[0][1], item[0][0]))
    return [
        {
            "kind": kind,
            "name": name,
            "count": entry.num_requests,
            **{column(q): entry.get_response_time_percentile(q) for q in PERCENTILES},
        }
        for (name, kind), entry in found
        if kind != REQUEST
    ]
