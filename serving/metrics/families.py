"""The families that are counted and timed as it happens; loaded.py has those that are asked for
when they are scraped. One registry per app; children are made once, not per request.

All times are of the monotonic clock within this process, in seconds.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

BUCKETS_S = tuple(50e-6 * 2**k for k in range(18))
"""Of one call of a network and of one token: up to 6.6 s."""
REQUEST_BUCKETS_S = tuple(50e-6 * 2**k for k in range(23))
"""Of a whole request and of all that it may wait for: up to 210 s."""
BATCH_BUCKETS = tuple(2**k for k in range(11))
MODEL = ("model", "backend", "task")
Labels = tuple[str, str, str]
"""Values of MODEL. `model` is what requests call it: the family for the default of a family, else
the name of the artifact; so ratios of two families compare their defaults."""


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
        self.shadow = self._counter(
            "shadow_requests",
            "Requests chosen to be computed again by both models, by what became of them: paired, "
            "skipped_busy, skipped_overloaded, failed, timed_out",
            "outcome",
        )

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

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        self._metrics, self._labels = metrics, labels
        self.queue = metrics.queue.labels(*labels)
        self.batch_size = metrics.batch_size.labels(*labels)

    def inference(self, phase: str) -> Histogram:
        return self._metrics.inference.labels(*self._labels, phase)

    def finished(self, reason: str) -> Counter:
        return self._metrics.finished.labels(*self._labels, reason)

    def rejected(self, reason: str) -> Counter:
        return self._metrics.rejected.labels(*self._labels, reason)


class TextMetrics(EngineMetrics):
    """What only generation has."""

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        super().__init__(metrics, labels)
        self.first_token = metrics.first_token.labels(*labels)
        self.inter_token = metrics.inter_token.labels(*labels)
        self.per_output_token = metrics.per_output_token.labels(*labels)
        self.prompt_tokens = metrics.prompt_tokens.labels(*labels)
        self.generation_tokens = metrics.generation_tokens.labels(*labels)
        self.prefill, self.decode = self.inference("prefill"), self.inference("decode")

    def apart(self) -> "TextMetrics":
        """The same children in a registry that nobody reads, for what is not to be counted."""
        return TextMetrics(Metrics(), self._labels)
