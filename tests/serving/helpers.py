"""Servers, engines and networks under control, for the tests of serving."""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import httpx
import numpy as np

from luminanet.artifact.manifest import Family
from luminanet.interface import Arrays, Tensor
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling
from luminanet.tokenizer import TextStream
from serving.api.openapi import PIXEL
from serving.app import create_app
from serving.engines.detokenize import Transcript
from serving.engines.job import Finish
from serving.engines.sequences import Drawn
from serving.engines.text import Generation, Piece, TextEngine
from serving.metrics.families import Metrics, TextMetrics
from serving.metrics.loaded import Loaded, LoadedCollector, Text
from serving.models.load import Models
from serving.runtimes.backend import Backend, Step
from serving.server import DrainingServer, listen, make_server
from serving.service import Service
from serving.settings import Settings

TIMEOUT_S = 60
OF_TEXTS = {"model": "luminanet", "backend": "ort_cpu", "task": "text-generation"}
OF_PICTURES = {**OF_TEXTS, "task": "image-classification"}


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = perf_counter() + TIMEOUT_S
    while not condition():
        assert perf_counter() < end_s, "the condition did not come true in time"
        threading.Event().wait(0.002)


# ---------------------------------------------------------------------- a whole server


@dataclass
class Running:
    """A real server on a free port of the loopback, and a client for it."""

    client: httpx.Client
    service: Service
    server: DrainingServer

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; 0 when it was never touched."""
        value = self.service.metrics.registry.get_sample_value(f"luminanet_{name}", labels)
        return 0.0 if value is None else value


@contextmanager
def running(models: Models, **settings: Any) -> Iterator[Running]:
    usual = {"threads": 1, "grace_seconds": 0.2, "max_batch": 4, "queue_seconds": 0}
    knobs = Settings(port=0, **{**usual, **settings})
    app = create_app(knobs, models)
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = make_server(app, knobs)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
                yield Running(client, app.state.service, server)
        finally:
            server.should_exit = True
            thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "the server did not exit"


def all_cancelled(server: Running, family: Family = Family.LUMINANET) -> bool:
    """Whether a text engine knows that nobody waits for what it computes."""
    return all(job.cancelled for job in server.service.text(family)[1]._running)


def frames(response: httpx.Response) -> list[Any]:
    """The data of server-sent events; the last one may be "[DONE]"."""
    events = response.text.split("\n\n")
    assert events.pop() == ""
    data = [event.removeprefix("data: ") for event in events]
    return [d if d == "[DONE]" else json.loads(d) for d in data]


def alike(found: Any, expected: Any) -> bool:
    """Whether two answers are the same but for what batches of other sizes round otherwise."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return list(found) == list(expected) and all(alike(found[k], expected[k]) for k in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-3, abs_tol=1e-5)
    return bool(found == expected)


# ---------------------------------------------------------------------- networks under control


class GatedBackend:
    """A backend whose computations wait while `gate` is closed, and fail while `broken` is set."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name: str = inner.name
        self.inputs: tuple[Tensor, ...] = inner.inputs
        self.outputs: tuple[Tensor, ...] = inner.outputs
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.runs = 0
        self.closing_at = 0
        """The run before which the gate closes by itself; 0 for none."""

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        step = self._inner.bind(inputs, outputs)

        def run() -> None:
            self.runs += 1
            if self.runs == self.closing_at:
                self.gate.clear()
            assert self.gate.wait(TIMEOUT_S)
            if self.broken:
                raise RuntimeError("the device is gone")
            step()

        return run


def gated(models: Models, family: Family = Family.LUMINANET) -> tuple[Models, GatedBackend]:
    """The same models, one text model of which draws tokens only while its gate is open."""
    backend = GatedBackend(models.text[family].backend)
    model = replace(models.text[family], backend=backend)
    return replace(models, text={**models.text, family: model}), backend


def gated_prompts(models: Models) -> tuple[Models, GatedBackend]:
    """The same models, with a GPT-2 that computes prompts only while its gate is open."""
    model = models.text[Family.GPT2]
    assert model.prompts is not None
    backend = GatedBackend(model.prompts)
    changed = replace(model, prompts=backend)
    return replace(models, text={**models.text, Family.GPT2: changed}), backend


def gated_image(models: Models) -> tuple[Models, GatedBackend]:
    """The same models, the image model of which computes only while its gate is open."""
    assert models.image is not None
    backend = GatedBackend(models.image.backend)
    return replace(models, image=replace(models.image, backend=backend)), backend


@contextmanager
def crowded(models: Models, of: dict[str, str] = OF_TEXTS) -> Iterator[Running]:
    """A server on which one row runs and one waits, with a place for one more, and only for one.
    In the end as many wait, and both are answered."""
    texts = of == OF_TEXTS
    slow, backend = gated(models) if texts else gated_image(models)
    path = "/generate" if texts else "/classify"
    body = {"prompt": "a", "max_tokens": 1} if texts else {"image": PIXEL}
    with running(slow, max_batch=1, queue_limit=2) as server, ThreadPoolExecutor(2) as pool:
        backend.gate.clear()
        try:
            answers = []
            for state in "requests_running", "requests_waiting":
                answers.append(pool.submit(server.client.post, path, json=body))
                wait_until(partial(_is_one, server, state, of))
            yield server
            assert server.metric("requests_waiting", **of) == 1, "none of those refused waits"
        finally:
            backend.gate.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]


def _is_one(server: Running, metric: str, labels: dict[str, str]) -> bool:
    return server.metric(metric, **labels) == 1


class Alphabet:
    """Stands in for a tokenizer's stream: token n is the n-th letter."""

    def push(self, token: int) -> str:
        return chr(ord("a") + token)


class Counting:
    """Sequences that count: after token n comes n + 1, of 26; token 25 ends the text.

    A prompt that ends in 13 makes joining fail; where one holds 20, the network names no token
    from then on. The log-probability of token n is -n; a text has `room` for so many tokens.
    """

    bytes_per_sequence = 8

    def __init__(self, rows: int, steps: int = 1, room: int = 1000) -> None:
        self.gate = threading.Semaphore(0)
        self.rows: list[list[int]] = [[] for _ in range(rows)]
        self.batches: list[int] = []
        self.asked: list[Sampling] = []
        self.open = True
        self.computes = False
        """Whether prompts are."""
        self._steps, self._room = steps, room

    def join(self, row: int, prompt: Sequence[int], how: Sampling) -> bool:
        if prompt[-1] == 13:
            raise RuntimeError("bad luck")
        self.rows[row] = list(prompt)
        self.asked.append(how)
        return self.computes

    def draw(self, rows: int, quick: bool = False) -> Drawn:
        steps = 1 if quick else self._steps
        if not self.open:
            assert self.gate.acquire(timeout=TIMEOUT_S)
        self.batches.append(rows)
        for row in self.rows[:rows]:
            for _ in range(steps):
                row.append(NO_TOKEN if {20, NO_TOKEN} & set(row) else (row[-1] + 1) % 26)
        ids_BK = np.array([row[-steps:] for row in self.rows[:rows]])
        return Drawn(ids_BK, -ids_BK.astype(np.float32))

    def room(self, _prompt: int) -> int:
        return self._room

    def move(self, source: int, target: int) -> None:
        self.rows[target] = list(self.rows[source])


class Bench:
    """A TextEngine on an event loop of its own thread: no HTTP around it."""

    def __init__(
        self,
        sequences: Any,
        max_batch: int,
        queue_limit: int = 64,
        end_id: int = 25,
        opened: Any = None,
        queue_s: float = 0,
    ):
        self.metrics = Metrics()
        labels = ("luminanet", "test", "text-generation")
        self.engine = TextEngine(
            "luminanet",
            sequences,
            opened,
            end_id,
            max_batch,
            queue_limit,
            TextMetrics(self.metrics, labels),
            queue_s,
        )
        asked = self.engine.running, self.engine.waiting
        loaded = Loaded(labels, {}, max_batch, queue_limit, {}, *asked, Text(8, 1))
        self.metrics.registry.register(LoadedCollector(lambda: [loaded], lambda: []))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Bench":
        self._thread.start()
        self.engine.start(self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.stop()
        self.engine.join()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, prompt: Sequence[int], max_tokens: int = 5, **options: Any) -> Generation:
        stream: TextStream = options.pop("stream", Alphabet())
        job = Generation(
            prompt,
            Transcript(stream, options.pop("stop", ())),
            options.pop("sampling", Sampling(temperature=0)),
            max_tokens,
            options.pop("arrived_s", perf_counter()),
        )
        assert not options
        self.engine.submit(job)
        return job

    def read(self, job: Generation) -> tuple[str, Finish]:
        """All of a job's text, and why it ended."""
        pieces = self.pieces(job)
        finish = pieces[-1].finish
        assert finish is not None
        return "".join(piece.text for piece in pieces), finish

    def pieces(self, job: Generation) -> list[Piece]:
        """All that is handed over of a job, up to its end."""
        return asyncio.run_coroutine_threadsafe(_read(job), self._loop).result(TIMEOUT_S)

    def counted(self, name: str, **labels: str) -> float:
        known = {"model": "luminanet", "backend": "test", "task": "text-generation", **labels}
        return self.metrics.registry.get_sample_value(f"luminanet_{name}", known) or 0.0


async def _read(job: Generation) -> list[Piece]:
    pieces: list[Piece] = []
    while not pieces or pieces[-1].finish is None:
        pieces += await job.outbox.take()
    return pieces
