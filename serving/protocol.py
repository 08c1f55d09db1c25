"""HTTP/1.1 on a connection (RFC 9112): uvicorn's h11 protocol, with the bounds and ends it lacks.

h11 brings that an offer to upgrade is ignored (RFC 9110 7.8), that an HTTP/1.0 client gets no
chunks, and that headers are bounded. Added here:

    pipelining     while a request is answered the connection is read on, so that a client that
                   leaves is noticed whatever it sent behind; what was sent is kept, up to a bound
    half close     a client that will send no more gets its answer; one that left is told from it
                   by what happens to a few bytes without meaning (`_probe`)
    deadlines      headers must be there, and a body go on, within a time: 408
    refusals       431, 408 and 400 in the form of every other error
    writes         an answer that is there whole goes out in one
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import h11
from h11._writers import ChunkedWriter
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from serving import errors
from serving.errors import ApiError, HeadersTooLargeError, ProtocolError, SlowClientError

PIPELINED_BYTES = 64 << 10
"""What a client may send behind a request that is not answered yet. More is dropped and the
connection closed after the answer: the client repeats what was not answered (RFC 9112 9.3.2)."""
FEED_BYTES = 16 << 10
"""h11 looks at its bound when a header is not complete, that is this often."""
PROBES_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Waits before the bytes that tell a client that left. A system answers the first with a reset,
which the next meets; after the last one, the answer itself is left to meet it."""
LINGER_S = 1.0
"""How long a refused client is read on: a close at once could destroy the answer on its way
(RFC 9112 9.6)."""
AUTHORITY = re.compile(rb"https?://[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What a client may take: bytes of a request's line and headers, and seconds."""

    head_bytes: int
    head_s: float
    body_s: float


def origin_form(app: ASGIApp) -> ASGIApp:
    """The application, asked by path where a client sends a whole URL (RFC 9112 3.2.2)."""

    async def asked_by_path(scope: Scope, receive: Receive, send: Send) -> None:
        whole = AUTHORITY.match(scope["raw_path"]) if scope["type"] == "http" else None
        if whole:
            raw = scope["raw_path"][whole.end() :] or b"/"
            scope = {**scope, "raw_path": raw, "path": unquote(raw.decode("ascii"))}
        await app(scope, receive, send)

    return asked_by_path


def bounded(limits: Limits) -> type["Connection"]:
    """The protocol of connections that keep to the limits."""
    return type("BoundedConnection", (Connection,), {"limits": limits})


class Requests(h11.Connection):
    """What h11 reads of a connection, which else lets any version pass: HTTP/2.0 too, as in the
    first line of a client that speaks HTTP/2 without asking (RFC 9113 3.4)."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request) and not event.http_version.startswith(b"1."):
            raise h11.RemoteProtocolError(f"its version is {event.http_version.decode()}")
        return event


class Joined:
    """A transport whose writes of one turn of the event loop go out together: else the head of an
    answer wakes its reader for nothing, and costs a system call."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))


class Connection(H11Protocol):
    limits: Limits

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = Requests(h11.SERVER, self.limits.head_bytes)
        self._pipelined = bytearray()
        self._half_closed = False
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def _answering(self) -> bool:
        """Whether a request has come whole, and its answer has not gone."""
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)

    # ------------------------------------------------------------------ what comes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), FEED_BYTES):
            if self._refused or self.transport.is_closing():
                return
            if self._answering:
                self._keep(data[start:])
                return
            super().data_received(data[start : start + FEED_BYTES])
        if self._answering:
            self.flow.resume_reading()
        self._watch()

    def _keep(self, data: bytes) -> None:
        if self.cycle.keep_alive and len(self._pipelined) + len(data) <= PIPELINED_BYTES:
            self._pipelined += data
        else:
            self.cycle.keep_alive = False
            self._pipelined.clear()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._pipelined and not self._answering:
            data = bytes(self._pipelined)
            self._pipelined.clear()
            self.data_received(data)
        elif self.conn.trailing_data[0] or self.conn.their_state is h11.SEND_BODY:
            self._unset_keepalive_if_required()  # another deadline holds for half a request
            self._watch()
        if self._half_closed:
            if self._answering:
                self._probe(iter(PROBES_S))
            else:
                self.transport.close()

    def _should_upgrade(self) -> bool:
        return False

    # ------------------------------------------------------------------ who leaves

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open: a client may close its side and read (RFC 9112 9.6).
        One of HTTP/1.0 cannot be told from one that left, which is by far more frequent."""
        if self._refused or not self._answering or self.scope["http_version"] == "1.0":
            return False
        if not self._half_closed:
            self._half_closed = True
            self._probe(iter(PROBES_S))
        return True

    def _probe(self, waits: Iterator[float]) -> None:
        """Writes what means nothing: 100 Continue before the answer (RFC 9110 15.2), within it a
        leading zero of the next chunk's size (RFC 9112 7.1)."""
        cycle, wait_s = self.cycle, next(waits, None)
        if wait_s is None:
            return

        def write() -> None:
            if cycle.response_complete or self.transport.is_closing() or self.flow.write_paused:
                return
            if not cycle.response_started:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
                self.transport.write(self.conn.send(go_on))
            elif isinstance(self.conn._writer, ChunkedWriter):
                self.transport.write(b"0")
            self._probe(waits)

        self.loop.call_later(wait_s, write)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._unset_deadline()

    def shutdown(self) -> None:
        """An upload that is not complete is not waited for."""
        if self._refused or (self.cycle is not None and self.cycle.more_body):
            self._close()
        else:
            super().shutdown()

    def _close(self) -> None:
        """At once for the application too, which would else write into what is closed."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    # ------------------------------------------------------------------ who is slow

    def _watch(self) -> None:
        """One deadline for all headers; one for a body, put off by whatever comes of it."""
        if self._refused:
            return
        state = self.conn.their_state
        if state is not h11.IDLE:
            self._unset_deadline()
        if state is h11.IDLE and self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.head_s, self._late)
        elif state is h11.SEND_BODY:
            self._deadline = self.loop.call_later(self.limits.body_s, self._late)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.flow.read_paused:  # it is we who are slow
            self._watch()
        elif self.conn.their_state is h11.SEND_BODY:
            self._refuse(SlowClientError(f"no more of the body came for {self.limits.body_s:g} s"))
        elif self.conn.trailing_data[0]:
            self._refuse(SlowClientError(f"the headers took more than {self.limits.head_s:g} s"))
        else:
            self._close()

    # ------------------------------------------------------------------ who is refused

    def send_400_response(self, msg: str) -> None:
        """Called where h11 raises: its error says more than `msg`."""
        error = sys.exc_info()[1]
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            most = self.limits.head_bytes
            self._refuse(HeadersTooLargeError(f"URL and headers have more than {most} bytes"))
        else:
            self._refuse(ProtocolError(f"this is no HTTP/1.1: {error or msg}"))

    def _refuse(self, error: ApiError) -> None:
        """Answers, where no answer has begun, and closes."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._close()
            return
        self._refused = True
        status, body = errors.status(error), json.dumps(errors.body(error)).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        start = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in start, h11.Data(data=body), h11.EndOfMessage():
            self.transport.write(self.conn.send(event))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._unset_deadline()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_S, self.transport.close)
