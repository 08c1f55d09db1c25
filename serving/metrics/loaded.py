"""What is loaded, told when it is scraped: it follows the engines that serve, and costs nothing
between two scrapes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.metrics.families import MODEL, Labels


class Text(NamedTuple):
    """What only a text model has."""

    state_bytes: int
    steps: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """One model with its engine."""

    labels: Labels
    info: Mapping[str, str]
    max_batch: int
    queue_limit: int
    graph_errors: Mapping[str, float]
    """What the self-test found, by graph."""
    running: Callable[[], int]
    waiting: Callable[[], int]
    text: Text | None = None


class LoadedCollector(Collector):
    """The families of what is loaded. `served` takes requests; `ending` only ends those it has,
    and so is told by these alone."""

    def __init__(
        self, served: Callable[[], Sequence[Loaded]], ending: Callable[[], Sequence[Loaded]]
    ) -> None:
        self._served, self._ending = served, ending

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        served = self._served()
        there = [*served, *self._ending()]
        yield _sums("requests_running", "Requests in the batch", there, lambda m: m.running())
        yield _sums("requests_waiting", "Requests in the queue", there, lambda m: m.waiting())
        yield _gauge(
            "max_batch",
            "Sequences or images that are computed together at most",
            {model.labels: model.max_batch for model in served},
        )
        yield _gauge(
            "queue_limit",
            "Requests that may wait",
            {model.labels: model.queue_limit for model in served},
        )
        texts = {model.labels: model.text for model in served if model.text}
        yield _gauge(
            "sequence_state_bytes",
            "Decoding state that one sequence holds, by its shapes",
            {labels: text.state_bytes for labels, text in texts.items()},
        )
        yield _gauge(
            "steps_per_call",
            "Tokens that one call draws for each sequence",
            {labels: text.steps for labels, text in texts.items()},
        )
        yield _gauge(
            "graph_error_ratio",
            "Distance of a graph from the numpy reference on this machine over its bound, found at "
            "the start; above 1 it is not served",
            {(*m.labels, graph): ratio for m in served for graph, ratio in m.graph_errors.items()},
            "graph",
        )
        info = InfoMetricFamily("luminanet_model", "A loaded model", labels=MODEL)
        for model in served:
            info.add_metric(model.labels, dict(model.info))
        yield info


def _sums(
    name: str, text: str, models: Sequence[Loaded], count: Callable[[Loaded], int]
) -> GaugeMetricFamily:
    """Of all engines with the same labels together."""
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for model in models:
        sums[model.labels] += count(model)
    return _gauge(name, text, sums)


def _gauge(
    name: str, text: str, values: Mapping[tuple[str, ...], float], *more: str
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"luminanet_{name}", text, labels=(*MODEL, *more))
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
