"""Jobs of an engine that one client waits for, one or several: they are submitted together, and
leave together when the client does."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Protocol

from starlette.types import Receive

from serving.api.schemas import Usage
from serving.engines.job import Job, Outbox, failure
from serving.engines.text import Generation, Piece
from serving.errors import ImageError, RequestError

Pieces = list[tuple[int, Piece]]
"""What is new, by the index of its text."""


class Cancellable(Protocol):
    def cancel(self) -> None: ...


@asynccontextmanager
async def watched(jobs: Cancellable, receive: Receive) -> AsyncIterator[None]:
    """Cancels the jobs when the client closes the connection, or the block is left early.

    The body of the request must have been read.
    """
    watcher = asyncio.create_task(_cancel_on_disconnect(jobs, receive))
    try:
        yield
    finally:
        watcher.cancel()
        jobs.cancel()


async def _cancel_on_disconnect(jobs: Cancellable, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    jobs.cancel()


@contextmanager
def naming(row: str, param: str | None) -> Iterator[None]:
    """What is wrong with `param` within the block is told of this row, as prompt[1]; "" names
    none."""
    try:
        yield
    except (RequestError, ImageError) as error:
        if not row or error.param != param:
            raise
        raise type(error)(f"{row}: {error.message}", row) from error


class All:
    """Jobs of any engine."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._all = jobs

    def cancel(self) -> None:
        for job in self._all:
            job.cancel()


class _Numbered(Outbox):
    """Puts the results of one job, with its index, into the outbox that all share."""

    def __init__(self, shared: Outbox, index: int) -> None:
        super().__init__()
        self._shared, self._index = shared, index

    def put(self, item: Piece) -> None:
        self._shared.put((self._index, item))


class Together(All):
    """Texts: they come as they are computed."""

    def __init__(self, jobs: Sequence[Generation], n: int = 1) -> None:
        """`n`: how many of them, one after the other, continue the same prompt."""
        super().__init__(jobs)
        self.jobs = jobs
        self._n = n
        self._left = len(jobs)
        self._outbox = Outbox()
        for index, job in enumerate(jobs):
            job.outbox = _Numbered(self._outbox, index)

    @property
    def ended(self) -> bool:
        """Whether no piece is to come."""
        return not self._left

    async def pieces(self, patience_s: float | None = None) -> AsyncGenerator[Pieces, None]:
        """All pieces that wait, again and again; none of them when none came for `patience_s`.
        Raises ApiError when a text did not end by itself, after what came before."""
        while not self.ended:
            new: Pieces = []
            try:
                async with asyncio.timeout(patience_s):
                    new = await self._outbox.take()
            except TimeoutError:
                pass
            for place, (_, piece) in enumerate(new):
                if piece.finish and (error := failure(piece.finish)):
                    if place:
                        yield new[:place]
                    raise error
                self._left -= piece.finish is not None
            yield new

    async def each(self, receive: Receive) -> list[list[Piece]]:
        """All pieces of every text. Raises ApiError when one did not end by itself."""
        parts: list[list[Piece]] = [[] for _ in self.jobs]
        async with watched(self, receive), aclosing(self.pieces()) as news:
            async for new in news:
                for index, piece in new:
                    parts[index].append(piece)
        return parts

    def usage(self) -> Usage:
        """Of all texts; a prompt that several continue counts once."""
        return usage(self.jobs, self._n)


def usage(jobs: Sequence[Generation], n: int = 1) -> Usage:
    """Of jobs of which `n` at a time continue the same prompt."""
    prompt = sum(len(job.prompt) for job in jobs[::n])
    completion = sum(job.tokens for job in jobs)
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def joined(pieces: Sequence[Piece]) -> Piece:
    """One piece for several."""
    return Piece(
        "".join(piece.text for piece in pieces),
        pieces[-1].finish if pieces else None,
        [log for piece in pieces for log in piece.logs],
        [token for piece in pieces for token in piece.ids],
        [top for piece in pieces for top in piece.tops],
    )
