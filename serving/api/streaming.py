"""From an outbox to the client: whole, or as server-sent events. A client that leaves is noticed.

The frames of a stream:

    data: {"text": "..."}                                 as often as there is new text; with
    data: {"text": "...", "logprobs": [..]}               logprobs as often as there are new tokens,
                                                          with their top_logprobs if asked for
    data: {"text": "", "prompt_logprobs": [..]}           once, before all tokens, if asked for
    data: {"finish_reason", "usage", "model", "seed"}     at the end, and then
    data: [DONE]
    data: {"error": {..}, "usage", "model", "seed"}       instead of these two when the text did not
                                                          end by itself
    : waiting                                             a comment, after heartbeat_s of silence
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luminanet.sampling import Token
from luminanet.tokenizer import Tokenizer
from serving import errors
from serving.api.schemas import TopToken, Usage
from serving.engines.engine import Finish, Job, failure
from serving.engines.text import Generation, Piece
from serving.errors import ApiError

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": waiting\n\n"
SERVER_TIMING = "Server-Timing"
ESCAPED = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Ends of lines for str.splitlines and clients like it, which JSON leaves as they are."""


class Cancellable(Protocol):
    """A job, or several that one client waits for."""

    def cancel(self) -> None: ...


@asynccontextmanager
async def watched(job: Cancellable, receive: Receive) -> AsyncIterator[None]:
    """Cancels the job when the client closes the connection, or the block is left early.

    The body of the request must have been read.
    """
    watcher = asyncio.create_task(_cancel_on_disconnect(job, receive))
    try:
        yield
    finally:
        watcher.cancel()
        job.cancel()


async def _cancel_on_disconnect(job: Cancellable, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    job.cancel()


async def result(job: Job, receive: Receive) -> Any:
    """The one result of a job that has one; raises it when it is an ApiError."""
    async with watched(job, receive):
        (answer,) = await job.outbox.take()
    if isinstance(answer, ApiError):
        raise answer
    return answer


async def whole(job: Generation, receive: Receive) -> list[Piece]:
    """All pieces of a generation; raises when it did not end by itself."""
    pieces: list[Piece] = []
    async with watched(job, receive):
        while not pieces or pieces[-1].finish is None:
            pieces += await job.outbox.take()
    finish = pieces[-1].finish
    assert finish is not None
    error = failure(finish)
    if error:
        raise error
    return pieces


def joined(pieces: Sequence[Piece]) -> Piece:
    """One piece for several."""
    return Piece(
        "".join(piece.text for piece in pieces),
        pieces[-1].finish if pieces else None,
        [log for piece in pieces for log in piece.logs],
        [token for piece in pieces for token in piece.ids],
        [top for piece in pieces for top in piece.tops],
    )


@dataclass(frozen=True, slots=True)
class Telling:
    """What a client is told of the tokens of a piece."""

    tokenizer: Tokenizer
    logprobs: bool = False
    top: bool = False

    def __call__(self, piece: Piece) -> dict[str, Any]:
        """The fields of an answer, or of a frame."""
        of = "prompt_" if piece.of_prompt else ""
        told: dict[str, Any] = {}
        if self.logprobs or piece.of_prompt:
            told[f"{of}logprobs"] = rounded(piece.logs)
        if self.top:
            told[f"{of}top_logprobs"] = [self._listed(top) or None for top in piece.tops]
        return told

    def frame(self, piece: Piece) -> bytes:
        if not (self.logprobs or self.top or piece.of_prompt):
            return _text_frame(piece)
        if not piece.text and not piece.logs:
            return b""
        return _frame({"text": piece.text, **self(piece)})

    def _listed(self, top: Sequence[Token]) -> list[dict[str, Any]]:
        texts = [token_text(self.tokenizer, token.id) for token in top]
        return [
            TopToken(id=token.id, token=text, logprob=round_log(token.log_probability)).model_dump()
            for token, text in zip(top, texts, strict=True)
        ]


class EventStream(Response):
    """The frames of a generation. Frames that wait together are sent together."""

    def __init__(
        self,
        job: Generation,
        ending: Mapping[str, Any],
        telling: Telling,
        heartbeat_s: float = 0,
        echo: str = "",
    ) -> None:
        """`ending`: what the last frame tells beside finish_reason and usage; `heartbeat_s` of 0:
        no comments."""
        super().__init__(headers=HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._job = job
        self._ending = ending
        self._heartbeat_s = heartbeat_s or None
        self._frame, self._echo = telling.frame, _text_frame(Piece(echo))

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        finish = None
        async with watched(self._job, receive):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if self._echo:
                await send({"type": "http.response.body", "body": self._echo, "more_body": True})
            while finish is None:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        pieces = await self._job.outbox.take()
                except TimeoutError:
                    await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
                    continue
                finish = pieces[-1].finish
                frames = b"".join(map(self._frame, pieces))
                if finish:
                    frames += self._last_frames(finish)
                if frames:
                    more = not finish
                    await send({"type": "http.response.body", "body": frames, "more_body": more})

    def _last_frames(self, finish: Finish) -> bytes:
        told = {"usage": token_usage(self._job).model_dump(), **self._ending}
        error = failure(finish)
        if error:
            return _frame({**errors.body(error), **told})
        return _frame({"finish_reason": finish, **told}) + DONE


def server_timing(*jobs: Job) -> dict[str, str]:
    """The header of a whole answer to these jobs, which have ended, in milliseconds: `queue`, the
    wait for a place in a batch; `first_token`, of texts, and `total`, both from the end of the
    request's headers. Of several jobs the longest wait and the earliest token.

    Source: https://www.w3.org/TR/server-timing/
    """
    arrived_s = jobs[0].arrived_s
    spans_s = {"queue": max(job.started_s - job.submitted_s for job in jobs)}
    texts = [job.first_s for job in jobs if isinstance(job, Generation)]
    if texts:
        spans_s["first_token"] = min(texts) - arrived_s
    spans_s["total"] = perf_counter() - arrived_s
    told = ", ".join(f"{name};dur={1000 * span_s:.3f}" for name, span_s in spans_s.items())
    return {SERVER_TIMING: told}


def token_usage(job: Generation) -> Usage:
    prompt, completion = len(job.prompt), job.tokens
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def rounded(logs: Iterable[float | None]) -> list[float | None]:
    return [None if log is None else round_log(log) for log in logs]


def round_log(log: float) -> float:
    """To the digits that float32 holds."""
    return round(log, 6)


def token_text(tokenizer: Tokenizer, id: int) -> str:
    """What a token stands for; bytes that are no whole characters in OpenAI's form, bytes:\\xe2."""
    data = tokenizer.bytes_of(id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _text_frame(piece: Piece) -> bytes:
    if not piece.text:
        return b""
    return b'data: {"text": %b}\n\n' % _json(piece.text)


def _frame(content: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % _json(content)


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).translate(ESCAPED).encode()
