"""What clients do on a connection, byte by byte, and what comes back."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from serving.models.load import Models
from serving.protocol import Joined
from tests.serving.helpers import TIMEOUT_S, Running, all_cancelled, gated, running, wait_until

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_LIVE = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def generate(version: bytes = b"1.1", headers: bytes = b"", **options: Any) -> bytes:
    body = json.dumps({"prompt": "Once", "max_tokens": 4, "temperature": 0, **options}).encode()
    return (
        b"POST /generate HTTP/%b\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n%b\r\n%b" % (version, len(body), headers, body)
    )


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Lets caplog hear uvicorn, which keeps its log from the root."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    port = server.client.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        yield client


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def answers(server: Running, *pieces: bytes) -> bytes:
    with connected(server) as client:
        for piece in pieces:
            client.sendall(piece)
        return rest(client)


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["type"]


# ---------------------------------------------------------------------- who leaves


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("when", ["nothing", "with it", "later", "later and too much"])
def test_a_client_that_leaves_is_cancelled_whatever_it_sent_behind(
    models: Models, caplog: pytest.LogCaptureFixture, stream: bool, when: str
) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        backend.gate.clear()
        with connected(server) as client:
            behind = LIVE if when == "with it" else b""
            client.sendall(generate(max_tokens=4000, stream=stream) + behind)
            wait_until(lambda: backend.runs > 0 and not server.service.idle)
            if when.startswith("later"):
                client.sendall(LIVE * (5000 if "too much" in when else 1))
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        wait_until(lambda: server.service.idle)
    assert "Exception" not in caplog.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_after_a_quick_request_is_cancelled_in_the_next(
    models: Models, stream: bool
) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        backend.gate.clear()
        with connected(server) as client:
            client.sendall(LIVE + generate(max_tokens=4000, stream=stream))
        wait_until(lambda: backend.runs > 0 and all_cancelled(server))
        backend.gate.set()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_closes_its_side_gets_its_answer(models: Models, stream: bool) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        backend.gate.clear()
        with connected(server) as client:
            client.sendall(generate(stream=stream))
            client.shutdown(socket.SHUT_WR)
            wait_until(lambda: backend.runs > 0 and not server.service.idle)
            backend.gate.set()
            answer = rest(client)
    last = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n" * answer.count(b" 100 Continue"))
    assert last.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"0\r\n\r\n") if stream else b'"finish_reason":"length"' in answer
    assert not stream or b"[DONE]" in answer


def test_a_client_that_closes_its_side_gets_all_answers_that_it_pipelined(server: Running) -> None:
    with connected(server) as client:
        client.sendall(LIVE + generate() + LIVE)
        client.shutdown(socket.SHUT_WR)
        answer = rest(client)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_pipelined_requests_are_answered_in_their_order(server: Running) -> None:
    answer = answers(server, LIVE, generate(), LIVE + LIVE, LAST_LIVE)
    assert answer.count(b"HTTP/1.1 200 OK") == 5
    assert answer.index(b"finish_reason") > answer.index(b"HTTP/1.1 200 OK")


# ---------------------------------------------------------------------- what is offered


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@pytest.mark.parametrize("framing", ["length", "chunked", "later"])
def test_an_offer_to_upgrade_is_ignored(server: Running, upgrade: bytes, framing: str) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: %b\r\n"
    head, body = generate(headers=offer % upgrade).split(b"\r\n\r\n")
    if framing == "chunked":
        head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    pieces = (head + b"\r\n\r\n", body) if framing == "later" else (head + b"\r\n\r\n" + body,)
    answer = answers(server, *pieces, LAST_LIVE)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b'"finish_reason":"length"' in answer


def test_a_stream_of_http_1_0_ends_with_the_connection_and_has_no_chunks(server: Running) -> None:
    head, body = answers(server, generate(b"1.0", stream=True)).split(b"\r\n\r\n", 1)
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"data: ")
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_whole_url_is_read_as_its_path(server: Running) -> None:
    for url in b"http://x/health/live?a=b", b"HTTPS://x:1/health%2flive":
        answer = answers(server, LAST_LIVE.replace(b"/health/live", url, 1))
        assert answer.startswith(b"HTTP/1.1 200 OK")
    root = answers(server, LAST_LIVE.replace(b"/health/live", b"http://x", 1))
    assert root.startswith(b"HTTP/1.1 200 OK")
    assert b"<!doctype html>" in root


# ---------------------------------------------------------------------- who is refused


@pytest.mark.parametrize(
    "request_",
    [
        LIVE[:-2] + b"A: " + b"x" * 100_000,
        LIVE[:-2] + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["one that does not end", "many", "a URL"],
)
def test_headers_above_the_limit_are_a_431(server: Running, request_: bytes) -> None:
    assert refusal(answers(server, request_)) == (431, "headers_too_large")


def test_a_limit_of_headers_is_a_setting_and_its_refusal_is_told(models: Models) -> None:
    with running(models, max_header_bytes=1024) as server:
        assert refusal(answers(server, LIVE[:-2] + b"A: " + b"x" * 1500))[0] == 431
        assert answers(server, LAST_LIVE).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "bytes_",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /models HTTP/0.9\r\nHost: x\r\n\r\n",
    ],
    ids=["words", "TLS", "no Host", "no ASCII", "HTTP/2", "HTTP/0.9"],
)
def test_what_is_no_request_is_a_400_in_the_form_of_every_error(
    server: Running, bytes_: bytes
) -> None:
    assert refusal(answers(server, bytes_)) == (400, "malformed_request")


def test_a_failure_of_ours_would_be_heard(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("uvicorn.error").error("x", exc_info=ValueError("a failure"))
    assert "a failure" in caplog.text


def test_a_body_of_broken_chunks_ends_the_request_without_a_traceback(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    head, body = generate().split(b"\r\n\r\n")
    head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    assert refusal(answers(server, head + b"\r\n\r\n", b"xyz\r\n"))[0] == 400
    assert "Exception" not in caplog.text


# ---------------------------------------------------------------------- who is slow


@pytest.fixture(scope="module")
def impatient(models: Models) -> Iterator[Running]:
    with running(models, header_seconds=0.3, body_seconds=0.3, keep_alive_seconds=1) as server:
        yield server


@pytest.mark.parametrize("half", [LIVE[:-2], b"G", generate()[:-3], generate().partition(b"{")[0]])
def test_half_a_request_is_a_408_after_a_while(
    impatient: Running, caplog: pytest.LogCaptureFixture, half: bytes
) -> None:
    assert refusal(answers(impatient, half)) == (408, "request_timeout")
    assert "Exception" not in caplog.text


def test_who_says_nothing_is_disconnected(impatient: Running) -> None:
    assert answers(impatient) == b"", "before the first request"
    assert answers(impatient, LIVE).count(b"HTTP/1.1 200 OK") == 1, "after one"


@pytest.mark.parametrize("half", [LIVE[:-2], generate()[:-3]], ids=["headers", "body"])
def test_half_a_request_behind_another_is_a_408_too(impatient: Running, half: bytes) -> None:
    first, second = answers(impatient, LIVE + half).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200")
    assert refusal(b"HTTP/1.1 " + second) == (408, "request_timeout")


def test_an_answer_that_takes_long_is_waited_for(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow, header_seconds=0.05, body_seconds=0.05) as server:
        backend.gate.clear()
        with connected(server) as client:
            client.sendall(generate(headers=b"Connection: close\r\n"))
            wait_until(lambda: backend.runs > 0 and not server.service.idle)
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
            backend.gate.set()
            client.settimeout(TIMEOUT_S)
            assert rest(client).startswith(b"HTTP/1.1 200 OK")


def test_an_upload_that_stopped_does_not_hold_up_the_end(
    models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    with running(models) as server, connected(server) as client:
        client.sendall(generate()[:-3])
        wait_until(lambda: bool(server.server.server_state.tasks))
        server.server.should_exit = True
        assert rest(client) == b""
    assert "Exception" not in caplog.text


# ---------------------------------------------------------------------- what goes out


class Wire:
    """A transport that keeps what is done with it."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def is_closing(self) -> bool:
        return "close" in self.done


@pytest.mark.parametrize("end", ["eof", "close", ""])
def test_what_is_written_in_one_turn_goes_out_as_one_and_before_the_end(end: str) -> None:
    wire = Wire()

    async def turns() -> None:
        joined = Joined(cast("asyncio.Transport", wire), asyncio.get_running_loop())
        joined.write(b"head")
        joined.write(b"body")
        if end:
            getattr(joined, {"eof": "write_eof"}.get(end, end))()
        await asyncio.sleep(0)
        joined.write(b"next")
        await asyncio.sleep(0)

    asyncio.run(turns())
    after = [] if end == "close" else [b"next"]
    assert wire.done == [b"headbody", *([end] if end else []), *after]
