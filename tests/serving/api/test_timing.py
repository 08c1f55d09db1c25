"""Server-Timing of whole answers, as browsers and proxies read it (W3C)."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serving.models.load import Models
from tests.serving.api.test_classify import png
from tests.serving.helpers import TIMEOUT_S, Running, gated, running, wait_until

LABELS = {"model": "luminanet", "backend": "ort_cpu", "task": "text-generation"}
METRIC = re.compile(r"([!#$%&'*+.^_`|~\w-]+);dur=(\d+\.\d+)", re.ASCII)
"""A token and its duration: https://www.w3.org/TR/server-timing/#the-server-timing-header-field"""
TEXTS = [
    ("/generate", {"prompt": "a", "max_tokens": 3}),
    ("/generate", {"prompt": ["a", "b"], "n": 2, "max_tokens": 3}),
    ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "max_tokens": 3}),
]


def timing(header: str) -> dict[str, float]:
    matches = [METRIC.fullmatch(part) for part in header.split(", ")]
    return {match[1]: float(match[2]) for match in matches if match}


@pytest.mark.parametrize(("path", "body"), TEXTS)
def test_a_whole_text_says_how_long_it_waited_and_took(
    server: Running, path: str, body: dict[str, Any]
) -> None:
    spans_ms = timing(server.post(path, **body).headers["server-timing"])
    assert list(spans_ms) == ["queue", "first_token", "total"]
    assert 0 <= spans_ms["queue"] <= spans_ms["first_token"] <= spans_ms["total"]
    assert 0 < spans_ms["total"] < 1000 * TIMEOUT_S


def test_a_picture_has_no_tokens_and_says_the_rest(server: Running) -> None:
    response = server.client.post("/classify", files={"file": ("a.png", png(), "image/png")})
    spans_ms = timing(response.headers["server-timing"])
    assert list(spans_ms) == ["queue", "total"]
    assert 0 <= spans_ms["queue"] <= spans_ms["total"]


@pytest.mark.parametrize("path", ["/generate", "/v1/completions"])
def test_a_text_without_tokens_has_no_first_one(server: Running, path: str) -> None:
    response = server.post(path, prompt="a", max_tokens=0, echo=True)
    assert list(timing(response.headers["server-timing"])) == ["queue", "total"]


def test_streams_and_errors_have_none(server: Running) -> None:
    stream = server.post("/generate", prompt="a", max_tokens=3, stream=True)
    refused = server.post("/generate", prompt="")
    assert not [r for r in (stream, refused) if "server-timing" in r.headers]


def test_a_wait_in_the_queue_is_told_as_one(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow, max_batch=1) as server, ThreadPoolExecutor(2) as pool:
        backend.gate.clear()
        runs = pool.submit(server.post, "/generate", prompt="a", max_tokens=1)
        wait_until(lambda: server.metric("requests_running", **LABELS) == 1)
        waits = pool.submit(server.post, "/generate", prompt="a", max_tokens=1)
        wait_until(lambda: server.metric("requests_waiting", **LABELS) == 1)
        backend.gate.wait(0.1)
        backend.gate.set()
        first, second = (timing(r.result().headers["server-timing"]) for r in (runs, waits))
    assert first["first_token"] > 100
    assert second["queue"] > 100
