"""Everything a client can get wrong has a status, a type, a helpful message and a field's name."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from serving import errors
from serving.api.middleware import BodyLimit
from serving.errors import ApiError, BodyTooLargeError, LaterError
from serving.models.load import Models
from tests.serving.helpers import Running, running, wait_until

PROMPT = {"prompt": "Once"}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "prompt", "required"),
        ({"prompt": ""}, "prompt", "none of them empty"),
        ({"prompt": 5}, "prompt", "a text or a list of texts"),
        ({"prompt": None}, "prompt", "a text or a list of texts"),
        (PROMPT | {"max_tokens": 0}, "max_tokens", "without echo it must be at least 1"),
        (PROMPT | {"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        (PROMPT | {"max_tokens": 10**9}, "max_tokens", "this server allows 1 to 4096"),
        (
            PROMPT | {"max_tokens": 10**30},
            "max_tokens",
            "less than or equal to 9223372036854775807",
        ),
        (PROMPT | {"max_tokens": "5"}, "max_tokens", "integer"),
        (PROMPT | {"max_tokens": 5.5}, "max_tokens", "integer"),
        (PROMPT | {"max_tokens": True}, "max_tokens", "integer"),
        (PROMPT | {"temperature": -0.1}, "temperature", "greater than or equal to 0"),
        (PROMPT | {"temperature": 101}, "temperature", "less than or equal to 100"),
        (PROMPT | {"temperature": "hot"}, "temperature", "number"),
        (PROMPT | {"top_k": -1}, "top_k", "greater than or equal to 0"),
        (PROMPT | {"top_k": 2**63}, "top_k", "less than or equal to 9223372036854775807"),
        (PROMPT | {"top_p": 0}, "top_p", "greater than 0"),
        (PROMPT | {"top_p": 1.01}, "top_p", "less than or equal to 1"),
        (PROMPT | {"min_p": -0.1}, "min_p", "greater than or equal to 0"),
        (PROMPT | {"min_p": 1.1}, "min_p", "less than or equal to 1"),
        (PROMPT | {"repetition_penalty": 0}, "repetition_penalty", "greater than or equal to 0.1"),
        (PROMPT | {"repetition_penalty": 11}, "repetition_penalty", "less than or equal to 10"),
        (PROMPT | {"logprobs": 1}, "logprobs", "boolean"),
        (PROMPT | {"seed": -1}, "seed", "greater than or equal to 0"),
        (PROMPT | {"seed": 2**63}, "seed", "less than or equal to 9223372036854775807"),
        (PROMPT | {"stop": ["a"] * 5}, "stop", "at most 4 items"),
        (PROMPT | {"stop": "x" * 65}, "stop.0", "at most 64 characters"),
        (PROMPT | {"stop": ["a", ""]}, "stop.1", "at least 1 character"),
        (PROMPT | {"stop": [1]}, "stop.0", "string"),
        (PROMPT | {"stop": {"a": 1}}, "stop", "list"),
        (PROMPT | {"stream": "yes"}, "stream", "boolean"),
        (PROMPT | {"model": 4}, "model", "valid string"),
        (PROMPT | {"temprature": 1}, "temprature", "the fields are prompt, n, max_tokens,"),
        ([], None, "must be a JSON object"),
        ("Once", None, "must be a JSON object"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    server: Running, body: Any, param: str | None, words: str
) -> None:
    response = server.client.post("/generate", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (422, "invalid_request")
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize("seed", [0, 10**9, 2**63 - 1])
def test_every_seed_in_range_is_accepted(server: Running, seed: int) -> None:
    body = PROMPT | {"seed": seed, "max_tokens": 1, "temperature": 5e-324}
    assert server.client.post("/generate", json=body).json()["seed"] == seed


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "repetition_penalty"])
def test_numbers_that_are_not_finite_are_refused(server: Running, field: str, number: str) -> None:
    body = f'{{"prompt": "a", "{field}": {number}}}'
    response = post_raw(server, body.encode())
    assert response.status_code in (400, 422)
    assert set(response.json()["error"]) == {"type", "message", "param"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"hello", b'{"prompt": "a"}}', b"\xff\xfe", b'{"prompt": "\\ud800"}', b"[" * 9999],
    ids=["empty", "open", "word", "too much", "no utf-8", "half a surrogate", "deep"],
)
def test_bodies_that_are_no_json_are_refused(server: Running, body: bytes) -> None:
    response = post_raw(server, body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "malformed_body")
    assert "not JSON" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_media_type_is_refused(server: Running, kind: str) -> None:
    response = post_raw(server, json.dumps(PROMPT).encode(), kind)
    assert (response.status_code, response.json()["error"]["param"]) == (415, "Content-Type")


def post_raw(
    server: Running, body: bytes, kind: str = "application/json; charset=utf-8"
) -> httpx.Response:
    return server.client.post("/generate", content=body, headers={"content-type": kind})


def test_a_long_name_of_a_field_is_not_echoed_in_full(server: Running) -> None:
    response = server.client.post("/generate", json=PROMPT | {"x" * 10_000: 1})
    assert response.status_code == 422
    assert len(response.content) < 500


# ---------------------------------------------------------------------- the size of bodies


JSON = {"content-type": "application/json"}


def test_a_body_above_the_limit_is_a_413_with_and_without_a_length(server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1000

    for content in b"x" * 200_001, chunks():
        response = server.client.post("/classify", content=content, headers=JSON)
        assert (response.status_code, response.json()["error"]["type"]) == (413, "body_too_large")
        assert "more than 200000 bytes" in response.json()["error"]["message"]


GENERATE = {"type": "http", "path": "/generate"}


def read_through_limit(declared: bytes | None, chunks: list[int]) -> tuple[int, int, bool]:
    """Through a limit of 10 bytes: chunks that came, chunks an app got, whether it was stopped."""
    came, read, stopped = 0, 0, False

    async def receive() -> Message:
        nonlocal came
        came += 1
        return {"type": "http.request", "body": b"x" * chunks[came - 1]}

    async def send(_: Message) -> None:
        raise NotImplementedError

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        nonlocal read, stopped
        try:
            for _chunk in chunks:
                await receive()
                read += 1
        except BodyTooLargeError:
            stopped = True

    headers = [] if declared is None else [(b"content-length", declared)]
    limited = BodyLimit(app, lambda path: 99 if path == "/large" else 10)
    asyncio.run(limited({**GENERATE, "headers": headers}, receive, send))
    return came, read, stopped


def test_a_limit_trusts_no_length_and_sums_what_comes() -> None:
    assert read_through_limit(None, [5, 5]) == (2, 2, False)
    assert read_through_limit(None, [5, 5, 1]) == (3, 2, True)
    assert read_through_limit(b"3", [5, 6, 1]) == (2, 1, True)
    assert read_through_limit(b"10", [10]) == (1, 1, False)
    assert read_through_limit(b"11", [1]) == (0, 0, True), "what it declares is enough"


def test_a_client_that_leaves_while_it_sends_is_counted_and_no_fault(
    models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    with running(models) as server:
        url = server.client.base_url
        with socket.create_connection((url.host, url.port or 0)) as client:
            client.sendall(
                b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 50\r\n\r\n{"
            )
        wait_until(lambda: server.metric("requests_total", route="/generate", code="499") == 1)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# ---------------------------------------------------------------------- paths and faults


@pytest.mark.parametrize(
    "path", ["/page", "/nothing", "/generate/", "/v1/chat/completions", "/%00"]
)
def test_an_unknown_path_is_a_404(server: Running, path: str) -> None:
    response = server.client.get(path)
    assert (response.status_code, response.json()["error"]["type"]) == (404, "unknown_path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/generate", "POST"), ("PUT", "/classify", "POST"), ("POST", "/metrics", "GET")],
)
def test_a_wrong_method_is_a_405_that_names_the_right_one(
    server: Running, method: str, path: str, allowed: str
) -> None:
    response = server.client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["error"]["message"] == f"{path} does not take {method}: use {allowed}"


def test_a_fault_of_ours_is_a_500_without_details(
    models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(models) as server:
        monkeypatch.setattr(server.service, "text", lambda _: 1 / 0)
        response = server.post("/generate", prompt="a")
        counted = server.metric("requests_total", route="/generate", code="500")
    assert response.status_code == 500
    assert response.headers["connection"] == "close", "as the server does it"
    assert response.headers["x-request-id"]
    assert response.json()["error"] == {
        "type": "internal_error",
        "message": "the server failed; its log says why",
        "param": None,
    }
    assert counted == 1


def test_every_error_has_a_status_and_a_type_of_its_own() -> None:
    kinds_of_later = set(LaterError.__subclasses__())
    assert set(errors.STATUS) == set(ApiError.__subclasses__()) - {LaterError} | kinds_of_later
    kinds = [kind for _, kind in errors.STATUS.values()]
    assert len(set(kinds)) == len(kinds)
