"""A process that asks for a server's health all the while, and says how long it waited."""

import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

EVERY_S = 0.02
ANSWER_S = 10.0


@dataclass
class Health:
    """Seconds that each probe took, and by how much the prober itself woke up too late; `failed`
    are those that were not answered with 200."""

    waits_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    failed: int = 0


@contextmanager
def probed(url: str, path: str = "/health/live") -> Iterator[Health]:
    """Within it a process of its own probes, each time on a new connection; the Health is filled
    when it ends."""
    health = Health()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_probe, args=(url, path, theirs), daemon=True)
    process.start()
    ours.recv()  # its first probe was answered
    try:
        yield health
    finally:
        ours.send(None)
        told: Health = ours.recv()
        process.join()
        vars(health).update(vars(told))


def _probe(url: str, path: str, line: "Connection[object, object]") -> None:
    where, health = urlsplit(url).netloc, Health()
    _asked(where, path)
    line.send(None)
    while not line.poll():
        due_s = time.monotonic() + EVERY_S
        time.sleep(EVERY_S)
        begun_s = time.monotonic()
        health.failed += not _asked(where, path)
        health.late_s.append(begun_s - due_s)
        health.waits_s.append(time.monotonic() - begun_s)
    line.send(health)


def _asked(where: str, path: str) -> bool:
    """Whether the answer is 200."""
    connection = http.client.HTTPConnection(where, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
