"""Several jobs of an engine that one client waits for: they are submitted together, and leave
together when the client does."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.types import Receive

from serving.api.schemas import Usage
from serving.api.streaming import joined, watched
from serving.engines.engine import Job, failure
from serving.engines.text import Generation, Piece

Pieces = list[tuple[int, Piece]]
"""What is new, by the index of its text."""


class All:
    """Jobs of any engine."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._all = jobs

    def cancel(self) -> None:
        for job in self._all:
            job.cancel()


class Together(All):
    """Texts: they come as they are computed."""

    def __init__(self, jobs: Sequence[Generation], n: int = 1) -> None:
        """`n`: how many of them, one after the other, continue the same prompt."""
        super().__init__(jobs)
        self.jobs = jobs
        self._n = n

    async def pieces(self, patience_s: float | None = None) -> AsyncGenerator[Pieces, None]:
        """All pieces that wait, again and again; none of them when none came for `patience_s`.
        Raises ApiError when a text did not end by itself."""
        waiting = {asyncio.create_task(job.outbox.take()): i for i, job in enumerate(self.jobs)}
        try:
            while waiting:
                done, _ = await asyncio.wait(
                    waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                new: Pieces = []
                for task in done:
                    index, pieces = waiting.pop(task), task.result()
                    new += [(index, piece) for piece in pieces]
                    finish = pieces[-1].finish
                    if finish and (error := failure(finish)):
                        raise error
                    if finish is None:
                        again = asyncio.create_task(self.jobs[index].outbox.take())
                        waiting[again] = index
                yield new
        finally:
            for task in waiting:
                task.cancel()

    async def wholes(self, receive: Receive) -> list[Piece]:
        """Every text as one piece. Raises ApiError when one did not end by itself."""
        parts: list[list[Piece]] = [[] for _ in self.jobs]
        async with watched(self, receive), aclosing(self.pieces()) as news:
            async for new in news:
                for index, piece in new:
                    parts[index].append(piece)
        return [joined(pieces) for pieces in parts]

    def usage(self) -> Usage:
        prompt = sum(len(job.prompt) for job in self.jobs[:: self._n])
        completion = sum(job.tokens for job in self.jobs)
        return Usage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )
