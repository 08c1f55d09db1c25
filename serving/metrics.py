"""Every number under /metrics. One registry per app; children are made once, not per request.

All times are of the monotonic clock within this process, in seconds.
"""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    generate_latest,
)

from luminanet.artifact.manifest import Manifest

BUCKETS_S = tuple(50e-6 * 2**k for k in range(18))
BATCH_BUCKETS = tuple(2**k for k in range(11))
MODEL = ("model", "backend", "task")
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metric families of one app, and what the HTTP layer counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Answers by route and status", "route", "code")
        self.request_duration = self._histogram(
            "request_duration_seconds",
            "From the first byte of a request to the end of its answer",
            "route",
        )
        self.ready = self._gauge("ready", "1 while new work is accepted")
        self.queue = self._histogram("request_queue_seconds", "Wait for a place in a batch", *MODEL)
        self.first_token = self._histogram(
            "time_to_first_token_seconds",
            "From the arrival of a request to its first non-empty text",
            *MODEL,
        )
        self.inter_token = self._histogram(
            "inter_token_latency_seconds",
            "Between two tokens of a sequence as they are handed over: those of one call of the "
            "network come together, the first after all the wait and the others after 0 s",
            *MODEL,
        )
        self.per_output_token = self._histogram(
            "time_per_output_token_seconds",
            "(last - first) / (tokens - 1) of a sequence that ended by itself, as handed over",
            *MODEL,
        )
        self.inference = self._histogram(
            "inference_duration_seconds",
            "One call of the network; phase decode: of several tokens a sequence",
            *MODEL,
            "phase",
        )
        self.batch_size = self._histogram(
            "batch_size", "Sequences or images in one call", *MODEL, buckets=BATCH_BUCKETS
        )
        self.running = self._gauge("requests_running", "Requests in the batch", *MODEL)
        self.waiting = self._gauge("requests_waiting", "Requests in the queue", *MODEL)
        self.rejected = self._counter(
            "requests_rejected", "Requests turned away: overloaded, shutting_down", *MODEL, "reason"
        )
        self.finished = self._counter(
            "requests_finished", "Requests that left the engine", *MODEL, "finish_reason"
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of admitted prompts", *MODEL)
        self.generation_tokens = self._counter(
            "generation_tokens", "Tokens generated and not dropped", *MODEL
        )
        self.state_bytes = self._gauge(
            "sequence_state_bytes", "Decoding state that one sequence holds", *MODEL
        )
        self.graph_error = self._gauge(
            "graph_error_ratio",
            "Distance of a graph from the numpy reference on this machine over its bound, found at "
            "the start; above 1 it is not served",
            *MODEL,
            "graph",
        )
        self.model_info = Info("luminanet_model", "A loaded model", MODEL, registry=self.registry)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"luminanet_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"luminanet_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = BUCKETS_S
    ) -> Histogram:
        return Histogram(f"luminanet_{name}", text, labels, buckets=buckets, registry=self.registry)


class EngineMetrics:
    """The children of one model's engine, made once for the hot path."""

    def __init__(
        self, metrics: Metrics, manifest: Manifest, backend: str, precision: str = "fp32"
    ) -> None:
        self._metrics = metrics
        self._labels = (manifest.family.value, backend, manifest.task.value)
        self.queue = metrics.queue.labels(*self._labels)
        self.batch_size = metrics.batch_size.labels(*self._labels)
        metrics.model_info.labels(*self._labels).info(
            {
                "name": manifest.name,
                "precision": precision,
                "parameters": str(manifest.parameters),
                "macs": str(manifest.macs),
                "context": str(manifest.context),
            }
        )

    def watch(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Gauges that are asked at scrape time, so that they cost nothing between scrapes."""
        self._metrics.running.labels(*self._labels).set_function(running)
        self._metrics.waiting.labels(*self._labels).set_function(waiting)

    def proved(self, ratios: Mapping[str, float]) -> None:
        """What the self-test found, by graph."""
        for graph, ratio in ratios.items():
            self._metrics.graph_error.labels(*self._labels, graph).set(ratio)

    def inference(self, phase: str) -> Histogram:
        return self._metrics.inference.labels(*self._labels, phase)

    def finished(self, reason: str) -> Counter:
        return self._metrics.finished.labels(*self._labels, reason)

    def rejected(self, reason: str) -> Counter:
        return self._metrics.rejected.labels(*self._labels, reason)


class TextMetrics(EngineMetrics):
    """What only generation has."""

    def __init__(
        self,
        metrics: Metrics,
        manifest: Manifest,
        backend: str,
        state_bytes: int,
        precision: str = "fp32",
    ) -> None:
        super().__init__(metrics, manifest, backend, precision)
        self.first_token = metrics.first_token.labels(*self._labels)
        self.inter_token = metrics.inter_token.labels(*self._labels)
        self.per_output_token = metrics.per_output_token.labels(*self._labels)
        self.prompt_tokens = metrics.prompt_tokens.labels(*self._labels)
        self.generation_tokens = metrics.generation_tokens.labels(*self._labels)
        metrics.state_bytes.labels(*self._labels).set(state_bytes)
