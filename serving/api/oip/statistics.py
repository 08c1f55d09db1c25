"""Counters of a model in Triton's form. Requests of this protocol are counted here, and their rows;
what the engine did for all clients is read from what /metrics tells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter, time

from prometheus_client import Histogram

from serving.api.oip.schemas import VERSION, Duration, InferStatistics, ModelStatistics
from serving.metrics.families import MODEL, Metrics


class Tally:
    """Requests to one model."""

    def __init__(self) -> None:
        self._success, self._fail = Duration(), Duration()
        self._rows = self._last_ms = 0

    @contextmanager
    def counting(self, arrived_s: float) -> Iterator[None]:
        """A request, which fails where the block raises."""
        self._last_ms = round(1e3 * time())
        outcome = self._fail
        try:
            yield
            outcome = self._success
        finally:
            outcome.count += 1
            outcome.ns += round(1e9 * (perf_counter() - arrived_s))

    def answered(self, rows: int) -> None:
        self._rows += rows

    def told(self, name: str, labels: Sequence[str], metrics: Metrics) -> ModelStatistics:
        """`labels` of the model in `metrics`."""
        calls = _total(metrics.inference, labels)
        return ModelStatistics(
            name=name,
            version=VERSION,
            last_inference=self._last_ms,
            inference_count=self._rows,
            execution_count=calls.count,
            inference_stats=InferStatistics(
                success=self._success,
                fail=self._fail,
                queue=_total(metrics.queue, labels),
                compute_input=Duration(),
                compute_infer=calls,
                compute_output=Duration(),
                cache_hit=Duration(),
            ),
            batch_stats=[],
        )


def _total(family: Histogram, labels: Sequence[str]) -> Duration:
    """All that a histogram saw of a model, in every phase; it is of seconds."""
    known = set(zip(MODEL, labels, strict=True))
    sums = {"_count": 0.0, "_sum": 0.0}
    for metric in family.collect():
        for sample in metric.samples:
            end = sample.name.removeprefix(metric.name)
            if end in sums and known <= set(sample.labels.items()):
                sums[end] += sample.value
    return Duration(count=int(sums["_count"]), ns=round(1e9 * sums["_sum"]))
