"""Users that wait for work. Nobody queues here: work that finds no idle user ends the run, because
its request would be sent late."""

from dataclasses import dataclass

from gevent.event import AsyncResult
from gevent.queue import Empty, LifoQueue

from loadtest.plan import Arrival


class RefusedError(Exception):
    """The client did not do what it was to do: what it measured says nothing of the server."""


@dataclass(frozen=True, slots=True)
class Job:
    """An arrival of the step with this number, and when it is to be sent."""

    step: int
    arrival: Arrival
    intended_s: float


class Pool:
    """The user that has waited least gets the next job: its connection is warm."""

    def __init__(self) -> None:
        self._idle: LifoQueue = LifoQueue()

    @property
    def idle(self) -> int:
        return int(self._idle.qsize())

    def wait(self) -> Job:
        """Called by a user: the next job for it."""
        box = AsyncResult()
        self._idle.put(box)
        job: Job = box.get()
        return job

    def give(self, job: Job) -> None:
        """Raises RefusedError when every user is busy."""
        try:
            self._idle.get_nowait().set(job)
        except Empty:
            raise RefusedError(
                "the pool is empty: a request was due and every user was busy: run with more "
                "users (-u) or offer less (--rates)"
            ) from None
