"""GET /metrics: the names and labels that dashboards rely on, and sums after known traffic."""

import itertools
import re

import pytest

from luminanet.artifact.manifest import Family
from serving.metrics.exposition import render
from serving.metrics.families import BUCKETS_S, REQUEST_BUCKETS_S, Metrics
from serving.models.load import Models
from tests.serving.helpers import Running, frames, running

MODEL = {"model", "backend", "task"}
FAMILIES = {
    "luminanet_requests_total": {"route", "code"},
    "luminanet_request_duration_seconds": {"route"},
    "luminanet_request_queue_seconds": MODEL,
    "luminanet_time_to_first_token_seconds": MODEL,
    "luminanet_inter_token_latency_seconds": MODEL,
    "luminanet_time_per_output_token_seconds": MODEL,
    "luminanet_inference_duration_seconds": MODEL | {"phase"},
    "luminanet_batch_size": MODEL,
    "luminanet_requests_running": MODEL,
    "luminanet_requests_waiting": MODEL,
    "luminanet_requests_rejected_total": MODEL | {"reason"},
    "luminanet_requests_finished_total": MODEL | {"finish_reason"},
    "luminanet_prompt_tokens_total": MODEL,
    "luminanet_generation_tokens_total": MODEL,
    "luminanet_sequence_state_bytes": MODEL,
    "luminanet_graph_error_ratio": MODEL | {"graph"},
    "luminanet_model_info": MODEL | {"name", "precision", "parameters", "macs", "context"},
    "luminanet_ready": set(),
    "luminanet_steps_per_call": MODEL,
    "luminanet_max_batch": MODEL,
    "luminanet_queue_limit": MODEL,
    "luminanet_build_info": {"version"},
}


def samples(text: str) -> dict[str, set[str]]:
    """Name of each family -> its labels, in the text that Prometheus reads."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(luminanet_\w+)(?:\{(.*)\})? ", text, re.M):
        if not name.endswith("_created"):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            found[family] = set(re.findall(r'(\w+)="', labels)) - {"le"}
    return found


def test_the_names_and_labels_are_exactly_those_agreed(server: Running) -> None:
    server.post("/generate", prompt="a", max_tokens=2)
    response = server.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert samples(response.text) == FAMILIES


@pytest.mark.parametrize(
    ("family", "last_s"),
    [
        ("inter_token_latency", 6),
        ("inference_duration", 6),
        ("time_to_first_token", 200),
        ("request_queue", 200),
        ("request_duration", 200),
    ],
)
def test_buckets_double_from_50_microseconds_to_the_longest_that_may_be(
    server: Running, family: str, last_s: float
) -> None:
    """4,096 tokens for 32 streams take a minute: a quantile must not end at 6.5 s (vllm #15167)."""
    server.post("/generate", prompt="a", max_tokens=2, model="gpt2")
    text = server.client.get("/metrics").text
    lines = re.findall(rf'{family}_seconds_bucket\{{(.*)le="([^"]+)"(.*)\}}', text)
    one = {before + after for before, _, after in lines if "gpt2" in before + after} or {
        before + after for before, _, after in lines if "/generate" in before + after
    }
    edges = [float(edge) for before, edge, after in lines if before + after == min(one)]
    buckets = BUCKETS_S if last_s < 10 else REQUEST_BUCKETS_S
    assert edges == [*buckets, float("inf")]
    assert (buckets[0], buckets[-1] > last_s) == (50e-6, True)
    assert all(b == 2 * a for a, b in itertools.pairwise(buckets))


def test_what_an_engine_takes_at_most_is_told(server: Running) -> None:
    for model, task in [("luminanet", "text-generation"), ("luminanet", "image-classification")]:
        labels = {"model": model, "backend": "ort_cpu", "task": task}
        assert server.metric("max_batch", **labels) == server.service.settings.max_batch
        assert server.metric("queue_limit", **labels) == server.service.settings.queue_limit
    labels = {"model": "gpt2", "backend": "ort_cpu", "task": "text-generation"}
    assert server.metric("steps_per_call", **labels) == server.service.settings.steps


@pytest.mark.parametrize("family", [Family.LUMINANET, Family.GPT2])
def test_sums_after_known_traffic(models: Models, family: Family) -> None:
    of_model = {"model": family.value, "backend": "ort_cpu", "task": "text-generation"}
    body = {"prompt": "Once", "max_tokens": 6, "model": family.value, "seed": 2}
    with running(models) as server:
        usage = server.post("/generate", **body).json()["usage"]
        *_, last, _ = frames(server.post("/generate", **body, stream=True))
        server.post("/generate", prompt="", model=family.value)
        server.client.get("/somewhere")
        assert usage == last["usage"]
        for name, labels, expected in [
            ("requests_total", {"route": "/generate", "code": "200"}, 2),
            ("requests_total", {"route": "/generate", "code": "422"}, 1),
            ("requests_total", {"route": "other", "code": "404"}, 1),
            ("request_duration_seconds_count", {"route": "/generate"}, 3),
            ("prompt_tokens_total", of_model, 2 * usage["prompt_tokens"]),
            ("generation_tokens_total", of_model, 2 * usage["completion_tokens"]),
            ("time_to_first_token_seconds_count", of_model, 2),
            ("inter_token_latency_seconds_count", of_model, 2 * (usage["completion_tokens"] - 1)),
            ("time_per_output_token_seconds_count", of_model, 2),
            ("request_queue_seconds_count", of_model, 2),
            ("requests_finished_total", of_model | {"finish_reason": "length"}, 2),
            ("requests_running", of_model, 0),
            ("ready", {}, 1),
        ]:
            assert server.metric(name, **labels) == expected, name


def test_the_state_of_a_sequence_is_what_the_models_differ_in(server: Running) -> None:
    def state(family: Family) -> float:
        labels = {"model": family.value, "backend": "ort_cpu", "task": "text-generation"}
        return server.metric("sequence_state_bytes", **labels)

    luminanet, gpt2 = (server.service.models.text[f].manifest for f in Family)
    assert state(Family.LUMINANET) == 8 * luminanet.context
    cache = 4 * 2 * gpt2.layers * gpt2.heads * gpt2.context * gpt2.head_width
    assert state(Family.GPT2) == cache + 8 * gpt2.context


def test_prefill_is_timed_where_there_is_one(models: Models) -> None:
    with running(models) as server:
        for model, prefills, decodes in ("gpt2", 1, 2), ("luminanet", 0, 2):
            server.post("/generate", prompt="ab", max_tokens=5, seed=1, model=model)
            labels = {"model": model, "backend": "ort_cpu", "task": "text-generation"}
            for phase, runs in ("prefill", prefills), ("decode", decodes):
                name = "inference_duration_seconds_count"
                assert server.metric(name, **labels, phase=phase) == runs


def test_two_apps_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.prompt_tokens.labels("m", "b", "t").inc()
    sample = b'luminanet_prompt_tokens_total{backend="b",model="m",task="t"} 1.0'
    assert sample in render(first.registry)[0]
    assert b"luminanet_prompt_tokens_total{" not in render(second.registry)[0]
