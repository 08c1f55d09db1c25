"""What a scrape gets: two formats that parsers accept, exemplars with request ids, and a port."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from luminanet.artifact.manifest import Family
from serving.metrics.advantage import Pair, Times
from serving.metrics.port import answering
from serving.models.load import Models
from tests.serving.helpers import TIMEOUT_S, Running, running

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""The Accept header of Prometheus 2.42."""


@pytest.fixture(scope="module")
def busy(models: Models) -> Iterator[Running]:
    """A server that has answered something on every route, with shadows."""
    with running(models, shadow=1.0) as server:
        for model in Family:
            server.post("/generate", prompt="Once", max_tokens=9, seed=1, model=model.value)
        server.post("/generate", prompt="")
        server.client.get("/somewhere")
        shadow = server.service._shadow
        assert shadow
        for k in range(250):
            shadow.pairs.add(Pair(Times(1 + k, 1, 2 + k), Times(2 + k, 2, 3 + k)))
        yield server


def scrape(server: Running, accept: str = "*/*") -> httpx.Response:
    return server.client.get("/metrics", headers={"Accept": accept})


def names(response: httpx.Response) -> set[str]:
    parse = parse_openmetrics if OPENMETRICS in response.headers["content-type"] else parse_plain
    return {
        sample.name
        for family in parse(response.text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_plain_text_is_what_everybody_gets_who_asks_for_nothing_else(busy: Running) -> None:
    response = scrape(busy)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "luminanet_requests_total" in names(response)
    assert "# {" not in response.text


@pytest.mark.parametrize("accept", [OPENMETRICS, PROMETHEUS])
def test_openmetrics_has_the_same_samples_and_ends_with_eof(busy: Running, accept: str) -> None:
    response = scrape(busy, accept)
    assert response.headers["content-type"].startswith(f"{OPENMETRICS}; version=1.0.0")
    assert response.text.endswith("# EOF\n")
    assert names(response) == names(scrape(busy))


def test_the_process_is_told_too(busy: Running) -> None:
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= names(scrape(busy))


def test_promtool_finds_nothing_to_lint(busy: Running) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=scrape(busy).text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---------------------------------------------------------------------- request ids


def exemplars(server: Running) -> dict[str, set[str]]:
    """Name of a family -> the ids in its exemplars."""
    found: dict[str, set[str]] = {}
    text = scrape(server, OPENMETRICS).text
    for family in parse_openmetrics(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            if sample.exemplar:
                ids = found.setdefault(family.name, set())
                ids.add(sample.exemplar.labels["request_id"])
    return found


def test_the_id_of_a_client_comes_back_and_is_the_exemplar(models: Models) -> None:
    given = "order-7/attempt=2"
    with running(models) as server:
        body = {"prompt": "Once", "max_tokens": 9, "seed": 1, "stream": True}
        response = server.client.post("/generate", json=body, headers={"X-Request-ID": given})
        assert response.headers["x-request-id"] == given
        found = exemplars(server)
    for name in (
        "request_duration_seconds",
        "request_queue_seconds",
        "time_to_first_token_seconds",
        "time_per_output_token_seconds",
    ):
        assert given in found[f"luminanet_{name}"], name


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 65, b'"', "ü".encode(), b"a\tb", None])
def test_an_id_that_is_not_short_and_plain_is_replaced(busy: Running, given: bytes | None) -> None:
    headers = {} if given is None else {b"X-Request-ID": given}
    first, second = (busy.client.get("/models", headers=headers) for _ in range(2))
    ids = [response.headers["x-request-id"] for response in (first, second)]
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
    assert ids[0] != ids[1]


def test_errors_have_an_id_as_well(busy: Running) -> None:
    for path in "/generate", "/nowhere":
        response = busy.client.post(path, headers={"X-Request-ID": "mine"})
        assert response.status_code >= 400
        assert response.headers["x-request-id"] == "mine"


# ---------------------------------------------------------------------- a port of its own


def test_a_port_of_its_own_takes_the_metrics_away_from_the_main_one(models: Models) -> None:
    with running(models, metrics_port=0) as server:
        assert scrape(server).status_code == 404
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            answering(server.service.metrics.registry, listener),
            httpx.Client(base_url=url, timeout=TIMEOUT_S) as client,
        ):
            plain, other = client.get("/metrics"), client.get("/models")
            asked = client.get("/metrics", headers={"Accept": PROMETHEUS})
            head = client.head("/metrics")
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, timeout=TIMEOUT_S)
    assert "luminanet_ready" in names(plain)
    assert asked.headers["content-type"].startswith(OPENMETRICS)
    assert (head.status_code, head.text) == (200, "")
    assert (other.status_code, other.text) == (404, "only /metrics is here\n")
