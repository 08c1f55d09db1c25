"""The page at /: try the networks in a browser. Plain HTML, CSS and modules, with no build step.

    index.html       the page; page.css its look, icon.svg its mark
    main.js          what is loaded here, and which parts of the page that leaves
    text.js          a prompt to both text models, side by side
    stream.js        server-sent events of POST /generate
    picture.js       a picture dropped, chosen, pasted or drawn -> bars of classes
    figures.js       latency and advantage, out of /metrics (metrics.js reads its format)
    dom.js           elements, and numbers as people read them
    server.js        requests to this server, and its errors in words
    topology.html    the evolved networks, drawn by topology.js

All addresses are relative, so that the page also works behind a path prefix; nothing is loaded
from anywhere else, which the Content-Security-Policy enforces.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from serving.models.load import Models

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # a picture that is shown before it is sent
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # keep it, and ask each time whether it is still the same
}
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}
INDEX = "index.html"
TOPOLOGIES = "topologies.json"


def build_router(models: Callable[[], Models]) -> APIRouter:
    """GET / and GET /page/NAME for each file, all read once, and for the topologies of the models
    as they are now. They are not part of the API."""
    router = APIRouter()

    def add(name: str, content: Callable[[], bytes]) -> None:
        answer = _answering(content, MEDIA_TYPES[name.rpartition(".")[2]])
        router.add_route(_path(name), answer, ["GET"], include_in_schema=False)

    for name, part in _parts().items():
        add(name, partial(bytes, part))
    add(TOPOLOGIES, lambda: _topologies(models()))
    return router


def public() -> frozenset[str]:
    """The paths of files that are the same on every server, and tell nothing of its models."""
    return frozenset(map(_path, _parts()))


def _path(name: str) -> str:
    return "/" if name == INDEX else f"/page/{name}"


def _parts() -> dict[str, bytes]:
    inside = files(__name__).iterdir()
    parts = [part for part in inside if part.name.rpartition(".")[2] in MEDIA_TYPES]
    return {part.name: part.read_bytes() for part in parts}


def _topologies(models: Models) -> bytes:
    """The architectures of what is served, by the names of the artifacts."""
    drawn = {m.manifest.name: m.topology.to_json() for m in models.all if m.topology}
    return json.dumps({name: json.loads(text) for name, text in drawn.items()}).encode()


def _answering(read: Callable[[], bytes], kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        content = read()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**HEADERS, "ETag": etag}
        known = request.headers.get("if-none-match", "")
        if etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers={**headers, "Content-Type": kind})

    return answer
