"""The families that are counted and timed as it happens. One registry per app; children are made
once, not per request.

All times are of the monotonic clock within this process, in seconds.
"""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

from luminanet.artifact.manifest import Manifest

BUCKETS_S = tuple(50e-6 * 2**k for k in range(18))
"""Of one call of a network and of one token: up to 6.6 s."""
REQUEST_BUCKETS_S = tuple(50e-6 * 2**k for k in range(23))
"""Of a whole request and of all that it may wait for: up to 210 s."""
BATCH_BUCKETS = tuple(2**k for k in range(11))
MODEL = ("model", "backend", "task")


class Metrics:
    """The metric families of one app, and what the HTTP layer counts."""

    def __init__(self, version: str = "0") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("luminanet_build", "The version of this server", registry=self.registry).info(
            {"version": version}
        )
        self.requests = self._counter("requests", "Answers by route and status", "route", "code")
        self.request_duration = self._histogram(
            "request_duration_seconds",
            "From the end of a request's headers to the end of its answer",
            "route",
            buckets=REQUEST_BUCKETS_S,
        )
        self.ready = self._gauge("ready", "1 while new work is accepted")
        self.queue = self._histogram(
            "request_queue_seconds",
            "From a place in the queue to a place in a batch; decodes a picture meanwhile",
            *MODEL,
            buckets=REQUEST_BUCKETS_S,
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds",
            "From the end of a request's headers until the engine has its first non-empty text",
            *MODEL,
            buckets=REQUEST_BUCKETS_S,
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
            "One call of the network for clients; phase decode: of several tokens a sequence",
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
            "requests_finished",
            "Requests that left the engine: stop, length, done; cancelled by the client, deadline, "
            "shutdown, error",
            *MODEL,
            "finish_reason",
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of admitted prompts", *MODEL)
        self.generation_tokens = self._counter(
            "generation_tokens", "Tokens generated and not dropped", *MODEL
        )
        self.state_bytes = self._gauge(
            "sequence_state_bytes", "Decoding state that one sequence holds, by its shapes", *MODEL
        )
        self.steps = self._gauge(
            "steps_per_call", "Tokens that one call draws for each sequence", *MODEL
        )
        self.max_batch = self._gauge(
            "max_batch", "Sequences or images that are computed together at most", *MODEL
        )
        self.queue_limit = self._gauge("queue_limit", "Requests that may wait", *MODEL)
        self.graph_error = self._gauge(
            "graph_error_ratio",
            "Distance of a graph from the numpy reference on this machine over its bound, found at "
            "the start; above 1 it is not served",
            *MODEL,
            "graph",
        )
        self.shadow = self._counter(
            "shadow_requests",
            "Requests chosen to be computed again by both models, by what became of them: paired, "
            "skipped_busy, skipped_overloaded, failed, timed_out",
            "outcome",
        )
        self.model_info = Info("luminanet_model", "A loaded model", MODEL, registry=self.registry)

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
        self._manifest, self._backend = manifest, backend
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

    def limits(self, max_batch: int, queue_limit: int) -> None:
        """What the engine takes at most: to be read beside what runs and waits."""
        self._metrics.max_batch.labels(*self._labels).set(max_batch)
        self._metrics.queue_limit.labels(*self._labels).set(queue_limit)

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
        steps: int = 1,
    ) -> None:
        super().__init__(metrics, manifest, backend, precision)
        self.first_token = metrics.first_token.labels(*self._labels)
        self.inter_token = metrics.inter_token.labels(*self._labels)
        self.per_output_token = metrics.per_output_token.labels(*self._labels)
        self.prompt_tokens = metrics.prompt_tokens.labels(*self._labels)
        self.generation_tokens = metrics.generation_tokens.labels(*self._labels)
        self.prefill, self.decode = self.inference("prefill"), self.inference("decode")
        metrics.state_bytes.labels(*self._labels).set(state_bytes)
        metrics.steps.labels(*self._labels).set(steps)

    def apart(self) -> "TextMetrics":
        """The same children in a registry that nobody reads, for what is not to be counted."""
        return TextMetrics(Metrics(), self._manifest, self._backend, 0)
