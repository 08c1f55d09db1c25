"""A seed -> what is sent: requests of every route, malformed ones, and clients that leave.

An `Errand` is what one client does on a connection: one request, or several that it pipelines, and
when it leaves, if it does. What the server must count for a request is in the request itself.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from benchmarks import wire
from loadtest.workload import MAX_TOKENS, PROMPTS, TEMPERATURE, call

MALFORMED = 0.1
LEAVING = 0.1
PIPELINED = 0.15
MOST_PIPELINED = 4
LONGEST_S = 0.15
"""How long a client that leaves stays at most, after its last byte."""


class Leave(StrEnum):
    """The moments at which a client may leave."""

    HEAD = "within its headers"
    BODY = "within its body"
    WAITING = "before its answer"
    ANSWER = "within its answer"


@dataclass(frozen=True, slots=True)
class Request:
    """`route` is what /metrics calls its path, "" where no request is understood; `model` computes
    it ("luminanet", "gpt2" or "picture"), "" where none does; `status` is the one right answer."""

    kind: str
    route: str
    data: bytes
    model: str = ""
    streams: bool = False
    status: int = 200


@dataclass(frozen=True, slots=True)
class Errand:
    requests: tuple[Request, ...]
    leaves: Leave | None = None
    after_s: float = 0.0
    resets: bool = False
    """Whether the one who leaves says nothing (a reset), or closes."""
    share: float = 0.0
    """Of the headers or the body: what is sent of it by one who leaves within."""


def errands(seed: int, count: int) -> Iterator[Errand]:
    """So many requests in all."""
    rng, left = random.Random(seed), count
    while left:
        errand = _errand(rng, min(left, MOST_PIPELINED))
        left -= len(errand.requests)
        yield errand


def _errand(rng: random.Random, most: int) -> Errand:
    draw = rng.random()
    if draw < MALFORMED:
        return Errand((malformed(rng),))
    several = rng.random() < PIPELINED and most > 1
    requests = tuple(wellformed(rng) for _ in range(rng.randint(2, most) if several else 1))
    if draw > MALFORMED + LEAVING:
        return Errand(requests)
    moment = rng.choice((Leave.WAITING, Leave.ANSWER) if several else list(Leave))
    return Errand(requests, moment, rng.uniform(0, LONGEST_S), rng.random() < 0.5, rng.random())


# ---------------------------------------------------------------------- right ones


def _workload(name: str) -> Callable[[random.Random], Request]:
    """A request of the load tests."""

    def write(rng: random.Random) -> Request:
        made = call(name, rng.getrandbits(32))
        model, kind = name.split()
        data = wire.request("POST", made.path, made.body, made.content_type)
        computes = "picture" if kind == "classify" else model
        return Request(name, made.path, data, computes, kind == "stream")

    return write


def _completions(streams: bool) -> Callable[[random.Random], Request]:
    def write(rng: random.Random) -> Request:
        body = {
            "model": rng.choice(("luminanet", "gpt2")),
            "prompt": rng.choice(PROMPTS),
            "max_tokens": rng.randint(1, MAX_TOKENS),
            "temperature": TEMPERATURE,
            "seed": rng.getrandbits(32),
            "stream": streams,
        }
        kind = f"completions {'stream' if streams else 'whole'}"
        data = wire.post("/v1/completions", body)
        return Request(kind, "/v1/completions", data, str(body["model"]), streams)

    return write


def _tokenize(rng: random.Random) -> Request:
    return Request("tokenize", "/tokenize", wire.post("/tokenize", {"prompt": rng.choice(PROMPTS)}))


WELLFORMED = (
    *(
        _workload(f"{model} {kind}")
        for model in ("luminanet", "gpt2")
        for kind in ("stream", "whole")
    ),
    _workload("luminanet classify"),
    _completions(streams=True),
    _completions(streams=False),
    _tokenize,
)


def wellformed(rng: random.Random) -> Request:
    return rng.choice(WELLFORMED)(rng)


# ---------------------------------------------------------------------- wrong ones

GENERATE, CLASSIFY, COMPLETIONS = "/generate", "/classify", "/v1/completions"
OTHER = "other"
FORM = "multipart/form-data; boundary=a"


def malformed(rng: random.Random) -> Request:
    """Its kind says what is wrong with it."""
    good = json.dumps({"prompt": rng.choice(PROMPTS)}).encode()
    text, picture = rng.choice(PROMPTS), rng.randbytes(rng.randint(1, 3000))
    part = b'--a\r\nContent-Disposition: form-data; name="file"; filename="p.png"\r\n\r\n'
    drawn = call("luminanet classify", rng.getrandbits(32))
    cut = drawn.body[: rng.randint(200, len(drawn.body) - 200)]
    cases = (
        Request("JSON cut", GENERATE, wire.request("POST", GENERATE, good[:-1]), status=400),
        Request("no body", COMPLETIONS, wire.request("POST", COMPLETIONS), status=400),
        Request(
            "unknown field", GENERATE, wire.post(GENERATE, {"prompt": text, "best": 1}), status=422
        ),
        Request("wrong type", GENERATE, wire.post(GENERATE, {"prompt": rng.random()}), status=422),
        Request(
            "out of range", GENERATE, wire.post(GENERATE, {"prompt": text, "top_p": 2}), status=422
        ),
        Request(
            "n of 0",
            COMPLETIONS,
            wire.post(COMPLETIONS, {"model": "gpt2", "prompt": text, "n": 0}),
            status=400,
        ),
        Request(
            "no such model",
            COMPLETIONS,
            wire.post(COMPLETIONS, {"model": "x", "prompt": text}),
            status=404,
        ),
        Request(
            "wrong media type",
            GENERATE,
            wire.request("POST", GENERATE, good, "text/plain"),
            status=415,
        ),
        Request("no such path", OTHER, wire.post(f"/{rng.getrandbits(32)}", {}), status=404),
        Request("wrong method", GENERATE, wire.request("GET", GENERATE), status=405),
        Request(
            "body too long",
            GENERATE,
            wire.request("POST", GENERATE, headers={"Content-Length": "999999999"}),
            status=413,
        ),
        Request(
            "no picture",
            CLASSIFY,
            wire.request("POST", CLASSIFY, part + picture + b"\r\n--a--\r\n", FORM),
            "picture",
            status=422,
        ),
        Request(
            "form cut",
            CLASSIFY,
            wire.request("POST", CLASSIFY, cut, drawn.content_type),
            status=400,
        ),
        Request(
            "no HTTP",
            "",
            rng.choice((b"\x16\x03\x01\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"hello\r\n\r\n")),
            status=400,
        ),
        Request(
            "two lengths",
            "",
            wire.request("POST", GENERATE, good, headers={"content-length": "1"}),
            status=400,
        ),
        Request(
            "long headers",
            "",
            wire.request("GET", "/models", headers={"X": "x" * 100_000}),
            status=431,
        ),
    )
    return rng.choice(cases)
