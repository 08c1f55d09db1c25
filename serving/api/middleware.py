"""Pure ASGI middleware: a body limit that trusts no header, HEAD as GET, a prefix, what /metrics
says of requests, and a short way to what is asked most."""

import random
import re
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import logs
from serving.api.answers import answer
from serving.errors import ApiError, BodyTooLargeError, ClientGoneError
from serving.metrics.families import Metrics

REQUEST_ID = "X-Request-ID"
GOOD_ID = re.compile(rb"[\w.:/+=@~-]{1,64}", re.ASCII)
"""Ids of clients that are taken over; others are replaced."""
NEW_ID_BITS = 64
"""Ids tell requests apart and are no secret: the system is not asked for them each time."""

Endpoint = Callable[[Request], Awaitable[Response]]
"""Reads its request and makes its answer by itself."""


class RequestMetrics:
    """Stamps a request (request.state.arrived_s, .request_id), counts and logs its answer and
    sends the id back in X-Request-ID.

    `routes` are the known path templates; every other path is counted as "other".
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._counters: dict[tuple[str, int], Counter] = {}
        self._durations: dict[str, Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived_s = perf_counter()
        given = request_id(scope)
        logs.request_id.set(given)
        scope.setdefault("state", {}).update(arrived_s=arrived_s, request_id=given)
        header = (REQUEST_ID.lower().encode(), given.encode())
        code = 500

        async def count(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            # the template, where the path has parameters
            path = getattr(scope.get("route"), "path", get_route_path(scope))
            route = path if path in self._routes else "other"
            self._counter(route, code).inc()
            duration_s = perf_counter() - arrived_s
            self._duration(route).observe(duration_s, {"request_id": given})
            logs.answered(scope["method"], route, code, duration_s)

    def _counter(self, route: str, code: int) -> Counter:
        if (route, code) not in self._counters:
            self._counters[route, code] = self._metrics.requests.labels(route, str(code))
        return self._counters[route, code]

    def _duration(self, route: str) -> Histogram:
        if route not in self._durations:
            self._durations[route] = self._metrics.request_duration.labels(route)
        return self._durations[route]


def request_id(scope: Scope) -> str:
    """That of the client where it is short and plain, else a new one."""
    name = REQUEST_ID.lower().encode()
    given: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return given.decode() if GOOD_ID.fullmatch(given) else f"{random.getrandbits(NEW_ID_BITS):016x}"


class RootPath:
    """Says below which path a proxy shows the server, whether the proxy strips it or not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


class BodyLimit:
    """Raises BodyTooLargeError while a body is read: at once when the declared length is too large,
    else when more bytes than allowed have come. `limit` gives that of a path, as of now."""

    def __init__(self, app: ASGIApp, limit: Callable[[str], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._limit(get_route_path(scope))
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
        refused = declared.isdigit() and int(declared) > max_bytes
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = {} if refused else await receive()
            received += len(message.get("body", b""))
            if refused or received > max_bytes:
                raise BodyTooLargeError(
                    f"the body has more than {max_bytes} bytes: send a smaller one"
                )
            return message

        await self._app(scope, limited, send)


class Direct:
    """POST to some paths, straight to their endpoints. FastAPI describes these routes, and would
    answer them too, but its matching, dependencies and exit stacks take longer than a picture."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = get_route_path(scope) if scope["type"] == "http" else ""
        endpoint = self._endpoints.get(path)
        if endpoint is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive))
        except ApiError as error:
            response = answer(error, path)
        except ClientDisconnect:
            response = answer(ClientGoneError("the client closed the connection"), path)
        await response(scope, receive, send)
