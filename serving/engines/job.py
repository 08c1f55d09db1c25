"""A request as its engine sees it, how it ends, and the outbox in which its results wait."""

import asyncio
from enum import StrEnum
from typing import Any

from serving.errors import (
    ApiError,
    ClientGoneError,
    DeadlineError,
    InternalError,
    ShuttingDownError,
)


class Finish(StrEnum):
    """Why a request left its engine."""

    STOP = "stop"
    LENGTH = "length"
    DONE = "done"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    ERROR = "error"


def failure(reason: Finish) -> ApiError | None:
    """What to tell a client whose request did not end by itself."""
    match reason:
        case Finish.CANCELLED:
            return ClientGoneError("the client closed the connection")
        case Finish.DEADLINE:
            return DeadlineError(
                "the request took longer than this server gives one: ask for less, or again later"
            )
        case Finish.SHUTDOWN:
            return ShuttingDownError("the server is shutting down: send the request again later")
        case Finish.ERROR:
            return InternalError("the network failed on this request; the server's log says why")
    return None


class Outbox:
    """Results of one request on their way to its HTTP handler."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._filled = asyncio.Event()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._filled.set()

    async def take(self) -> list[Any]:
        """All results since the last call; waits for the first one."""
        await self._filled.wait()
        self._filled.clear()
        items, self._items = self._items, []
        return items


class Job:
    """A request as its engine sees it. `cancel` may be called at any time, from any thread.

    `request_id` names it in the exemplars of metrics and in the log; "" has none.
    """

    replay = False
    """Whether no client asked for it: such jobs are counted nowhere (text.py, shadow.py)."""

    def __init__(self, arrived_s: float, request_id: str = "") -> None:
        self.arrived_s = arrived_s
        self.exemplar = {"request_id": request_id} if request_id else None
        self.submitted_s = 0.0
        self.started_s = 0.0
        """When it got its place in a batch."""
        self.outbox = Outbox()
        self.leaving: Finish | None = None
        """Why it leaves before its end."""

    @property
    def cancelled(self) -> bool:
        return self.leaving is not None

    def cancel(self, reason: Finish = Finish.CANCELLED) -> None:
        """The result is not awaited any more: the job leaves before the next step. The first
        reason counts."""
        self.leaving = self.leaving or reason
