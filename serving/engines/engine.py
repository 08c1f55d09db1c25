"""A thread behind a bounded queue. Its results go to asyncio once per step, not once per result.

One engine computes for one model. Requests come from the event loop (`submit`), wait in a bounded
queue and are worked off by `_step` on the engine's own thread; the runtime releases the GIL, so
the event loop runs meanwhile. Every request has an Outbox, which only the event loop touches.

Life cycle: start -> drain (no new requests, running ones go on) -> stop (what is left ends now).
A thread that dies all the same ends its requests with Finish.ERROR; then `alive` is False and
nothing is taken any more.
"""

import asyncio
import logging
import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Any, Generic, TypeVar

from serving.engines.job import Finish, Job, Outbox
from serving.engines.pace import Pace
from serving.errors import (
    RETRY_AFTER_S,
    OverloadedError,
    ShuttingDownError,
    UnavailableError,
)
from serving.metrics.families import EngineMetrics

log = logging.getLogger("luminanet.engine")

LONGEST_RETRY_S = 60
"""What a client is told at most: later the queue may be another one."""
FEW = 4
"""One in so many of a batch may wait however long it takes: of those that run, which take about as
long as each other, so many end within the fourth part of that time."""


J = TypeVar("J", bound=Job)


class Engine(ABC, Generic[J]):
    """Subclasses say what a step is; jobs are in `_running` while they take part in steps, up to
    max_batch. `queue_limit` is how many more may wait, and `queue_s` how long one that comes may
    have to by the pace of late, unless FEW wait; 0: any."""

    def __init__(
        self,
        name: str,
        max_batch: int,
        queue_limit: int,
        metrics: EngineMetrics,
        queue_s: float = 0.0,
    ) -> None:
        self.name = name
        self._max_batch, self._queue_limit, self._queue_s = max_batch, queue_limit, queue_s
        self._waiting: deque[J] = deque()
        self._running: list[J] = []
        self._wake = threading.Condition()
        self._draining = self._stopping = self._busy = self._dead = False
        self._results: list[tuple[Outbox, Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._pace, self._ended = Pace(), 0
        self._metrics = metrics
        self._rejected = {r: metrics.rejected(r) for r in ("overloaded", "shutting_down")}

    # ------------------------------------------------------------------ called by the event loop

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def submit(self, *jobs: J) -> None:
        """Queues jobs, all or none. Raises OverloadedError (the queue has no place for them),
        ShuttingDownError, or UnavailableError (the thread is dead)."""
        asked = _clients(jobs)
        with self._wake:
            if self._draining:
                self._rejected["shutting_down"].inc()
                raise ShuttingDownError("the server is shutting down: send the request again later")
            if self._dead:
                raise UnavailableError(f"the engine of {self.name} has died: restart the server")
            lacking = max(self._lacking(asked), self._late()) if asked else 0
            if lacking > 0:
                self._rejected["overloaded"].inc()
                raise OverloadedError(
                    f"{len(self._waiting)} requests wait for {self.name} already: "
                    "send the request again later",
                    self._retry_after_s(lacking),
                )
            now_s = perf_counter()
            if asked:
                self._pace.work_comes(now_s)
            for job in jobs:
                job.submitted_s = now_s
                self._waiting.append(job)
                self._queued(job)
            if self._startable():
                self._wake.notify()

    def _queued(self, _job: J) -> None:
        """A job waits now; called under `_wake`."""

    def expire(self, job: J) -> None:
        """The job's time is over: it ends, if it has not yet, with Finish.DEADLINE."""
        with self._wake:
            job.cancel(Finish.DEADLINE)
            self._wake.notify()

    def drain(self) -> None:
        self._draining = True

    def stop(self) -> None:
        """Ends everything with Finish.SHUTDOWN at the next step, and the thread with it."""
        with self._wake:
            self._draining = self._stopping = True
            self._wake.notify()

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def running(self) -> int:
        """Clients' requests in the batch."""
        return _clients(self._running)

    def waiting(self) -> int:
        """Clients' requests in the queue."""
        return _clients(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether all that was submitted is done and handed over."""
        return not (self._busy or self._waiting or self._running)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    # ------------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        try:
            self._work()
            reason = Finish.SHUTDOWN
        except BaseException:
            log.critical("%s: the engine died; restart the server", self.name, exc_info=True)
            reason = Finish.ERROR
        with self._wake:
            self._dead, self._busy = True, False
            self._running.extend(self._waiting)
            self._waiting.clear()
        self._end_running(reason)
        self._hand_over()

    def _work(self) -> None:
        while self._has_work():
            try:
                self._forget_cancelled()
                self._step()
            except Exception:
                log.exception("%s: a step failed; its requests are ended", self.name)
                self._end_running(Finish.ERROR)
            self._hand_over()
            self._keep_pace()

    def _keep_pace(self) -> None:
        ended, self._ended = self._ended, 0
        with self._wake:
            self._pace.went_on(perf_counter(), ended, bool(self._waiting or self._running))

    def _has_work(self) -> bool:
        """Waits for a job; False when the engine is to stop."""
        with self._wake:
            self._busy = False
            while not (self._stopping or self._running or self._startable()):
                self._wake.wait()
            self._busy = not self._stopping
        return self._busy

    def _forget_cancelled(self) -> None:
        """Throws cancelled jobs out of the queue, so that they take no place in it."""
        with self._wake:
            gone = [job for job in self._waiting if job.cancelled]
            for job in gone:
                self._waiting.remove(job)
        for job in gone:
            self._end(job, job.leaving or Finish.CANCELLED)

    def _lacking(self, asked: int) -> int:
        """How many must end before so many more may wait, beside those whom a free place awaits;
        0 or less when they may. Under `_wake`."""
        places = self._queue_limit + self._max_batch
        lacking = len(self._waiting) + len(self._running) + asked - places
        if lacking <= 0:  # even if all of them were clients': there is no need to count these
            return lacking
        return self.waiting() + self.running() + asked - places

    def _late(self) -> int:
        """How many must end before one that comes now waits no longer than it may; 0 or less when
        it does not. What comes together counts once: it is let in whole. Under `_wake`."""
        most = self._max_batch + max(1, self._max_batch // FEW)
        if not self._queue_s or len(self._waiting) + len(self._running) < most:
            return 0
        ahead = (*self._waiting, *self._running)
        asked = sum(not (job.replay or job.cancelled) for job in ahead) + 1
        late = self._pace.wait_s(asked - self._max_batch) > self._queue_s
        return asked - most if late else 0

    def _retry_after_s(self, places: int) -> int:
        """When so many requests will have ended, as far as the last ones tell."""
        return min(max(RETRY_AFTER_S, math.ceil(self._pace.wait_s(places))), LONGEST_RETRY_S)

    def _next(self) -> J | None:
        """The job that could start first, now the last of `_running`; None when there is none, or
        no place."""
        with self._wake:
            job = self._pop() if len(self._running) < self._max_batch else None
            if job is not None:
                self._running.append(job)
        if job is not None:
            job.started_s = perf_counter()
            if not job.replay:
                self._metrics.queue.observe(job.started_s - job.submitted_s, job.exemplar)
        return job

    def _startable(self) -> bool:
        """Whether a step has something to do though nothing runs; called under `_wake`."""
        return bool(self._waiting)

    def _pop(self) -> J | None:
        """Takes the next job out of the queue, if one can start; called under `_wake`."""
        return self._waiting.popleft() if self._waiting else None

    def _post(self, job: J, result: Any) -> None:
        """Puts a result aside for the next hand-over."""
        self._results.append((job.outbox, result))

    def _hand_over(self) -> None:
        """Gives all results since the last hand-over to the event loop, in one call."""
        if self._results:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_deliver, self._results)
            self._results = []

    def _count(self, job: J, reason: Finish) -> None:
        """Counts a client's job that ends."""
        if not job.replay:
            self._ended += 1
            self._metrics.finished(reason).inc()

    def _end_running(self, reason: Finish) -> None:
        while self._running:
            self._end(self._running.pop(), reason)

    @abstractmethod
    def _step(self) -> None:
        """Takes in what fits (`_next`), computes once, posts results."""

    @abstractmethod
    def _end(self, job: J, reason: Finish) -> None:
        """Counts (`_count`) a job that ends and posts its last result; it has left `_running`."""


def _clients(jobs: Iterable[Job]) -> int:
    return sum(not job.replay for job in tuple(jobs))


def _deliver(results: list[tuple[Outbox, Any]]) -> None:
    for outbox, result in results:
        outbox.put(result)
