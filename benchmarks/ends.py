"""Ends that no stream may notice: a reload, a SIGTERM, a client that is killed (overload.py)."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import wire
from loadtest.answers import Stream
from loadtest.workload import PROMPTS
from luminanet.errors import DataError

ANSWER_S = 60.0
STREAMS, STREAM_TOKENS, LONG_TOKENS = 32, 200, 400
ENDLESS = {"max_tokens": 4000, "temperature": 100, "top_k": 0}
"""Of a text that is drawn from all tokens alike, so that none ends it soon."""
QUEUED_S = 0.1
LONG = {"stream": True, "max_tokens": LONG_TOKENS, "ignore_eos": True}
"""A text that runs on while the models are loaded anew."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did to streams: `running` had not ended when it was done."""

    seconds: float
    running: int
    broken: int
    changed: int


def body(rng: random.Random, **more: object) -> bytes:
    asked = {"prompt": rng.choice(PROMPTS), "seed": rng.getrandbits(32)}
    return wire.post("/generate", {**asked, **more})


async def stream(url: str, data: bytes, begun: asyncio.Event) -> Stream:
    """Its `error` is "" when it came to its end."""
    found, rest = Stream(), b""
    try:
        async with asyncio.timeout(ANSWER_S), wire.Connection(url) as connection:
            connection.send(data)
            async for part in connection.body(await connection.head()):
                *frames, rest = (rest + part).split(b"\n\n")
                for frame in frames:
                    found.frame(frame, time.monotonic())
                begun.set()
    except (TimeoutError, *wire.BROKEN) as error:
        found.error = found.error or type(error).__name__
    begun.set()
    return found


async def ended(url: str, pid: int, rng: random.Random) -> tuple[int, int]:
    """Streams that came whole, and those that did not, of a server that is told to end."""
    begun = [asyncio.Event() for _ in range(STREAMS)]
    data = [body(rng, stream=True, max_tokens=STREAM_TOKENS) for _ in begun]
    tasks = _begun(url, data, begun)
    await asyncio.gather(*(event.wait() for event in begun))
    os.kill(pid, signal.SIGTERM)
    found = await asyncio.gather(*tasks)
    whole = sum(not one.error for one in found)
    return whole, len(found) - whole


async def reloaded(url: str, key: str) -> Reloaded:
    """Streams while the models are loaded anew, against the same ones before. Raises DataError
    when the server did not load them."""
    seeds = range(STREAMS)
    asked = [
        wire.post("/generate", {"prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed, **LONG})
        for seed in seeds
    ]
    before = [await task for task in _begun(url, asked, [asyncio.Event() for _ in seeds])]
    begun = [asyncio.Event() for _ in seeds]
    tasks = _begun(url, asked, begun)
    await asyncio.gather(*(event.wait() for event in begun))
    begun_s = time.monotonic()
    admin = {"Authorization": f"Bearer {key}"}
    head, answer = await wire.ask(url, wire.request("POST", "/admin/reload", headers=admin))
    seconds, running = time.monotonic() - begun_s, sum(not task.done() for task in tasks)
    if head.status != 200:
        raise DataError(f"the models were not loaded anew: {answer.decode()}")
    after = await asyncio.gather(*tasks)
    texts = zip(before, after, strict=True)
    return Reloaded(
        seconds,
        running,
        broken=sum(bool(one.error) for one in [*before, *after]),
        changed=sum(old.text != new.text for old, new in texts),
    )


def _begun(
    url: str, asked: Sequence[bytes], begun: Sequence[asyncio.Event]
) -> list[asyncio.Task[Stream]]:
    pairs = zip(asked, begun, strict=True)
    return [asyncio.create_task(stream(url, data, event)) for data, event in pairs]


KILLED = """
import socket, sys
host, port, data = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
with socket.create_connection((host, port)) as line:
    line.sendall(data)
    print(len(line.recv(4096)), flush=True)
    while line.recv(4096):
        pass
"""


async def killed(url: str, rng: random.Random) -> float:
    """Seconds from the end of a client (SIGKILL), in a stream that has the only place, until the
    stream of one who waits has its first text."""
    host, port = url.removeprefix("http://").split(":")
    data = body(rng, stream=True, **ENDLESS)
    command = [sys.executable, "-c", KILLED, host, port, data.hex()]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    await process.stdout.readline()
    waiting = asyncio.create_task(stream(url, body(rng, stream=True), asyncio.Event()))
    await asyncio.sleep(QUEUED_S)
    begun_s = time.monotonic()
    process.kill()
    await process.wait()
    found = await waiting
    if found.first_s is None or found.first_s < begun_s:
        raise DataError("the one who waited did not wait for the place of the one who was killed")
    return found.first_s - begun_s
