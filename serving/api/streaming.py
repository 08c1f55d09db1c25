"""Texts out, as server-sent events or told in an answer. The frames of a stream of one text:

    data: {"text": "..."}                                 as often as there is new text; with
    data: {"text": "...", "logprobs": [..]}               logprobs as often as there are new tokens,
                                                          with their top_logprobs if asked for
    data: {"text": "", "prompt_logprobs": [..]}           once, before all tokens, if asked for
    data: {"finish_reason", "usage", "model", "seed"}     at the end, and then
    data: [DONE]
    data: {"error": {..}, "usage", "model", "seed"}       instead of these two when the text did not
                                                          end by itself
    : waiting                                             a comment, after heartbeat_s of silence

Of several, in any company: the same with the "index" of the text, then {"usage", "model"} of all
and [DONE]; an error ends all of them.
"""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luminanet.sampling import Token
from luminanet.tokenizer import Tokenizer
from serving import errors
from serving.api.jobs.together import Together, usage, watched
from serving.api.schemas import TopToken
from serving.engines.job import Job
from serving.engines.text import Generation, Piece
from serving.errors import ApiError

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": waiting\n\n"
SERVER_TIMING = "Server-Timing"
ESCAPED = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Ends of lines for str.splitlines and clients like it, which JSON leaves as they are."""


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

    def frame(self, piece: Piece, index: Mapping[str, int]) -> bytes:
        """`index`: what names the text among several."""
        tells = self.logprobs or self.top or piece.of_prompt
        if not (piece.text or (tells and piece.logs)):
            return b""
        return _frame({**index, "text": piece.text, **self(piece)})

    def _listed(self, top: Sequence[Token]) -> list[dict[str, Any]]:
        texts = [token_text(self.tokenizer, token.id) for token in top]
        return [
            TopToken(id=token.id, token=text, logprob=round_log(token.log_probability)).model_dump()
            for token, text in zip(top, texts, strict=True)
        ]


class Events(Response):
    """Server-sent events of texts while they are computed. Frames that wait together are sent
    together."""

    def __init__(self, together: Together, heartbeat_s: float) -> None:
        """`heartbeat_s` of 0: no comments."""
        super().__init__(headers=HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self.together = together
        self._patience_s = heartbeat_s or None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        pieces = self.together.pieces(self._patience_s)
        async with watched(self.together, receive), aclosing(pieces) as news:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if frames := self.first():
                await send(_body(frames))
            try:
                async for new in news:
                    frames = b"".join(self.frame(*one) for one in new) if new else HEARTBEAT
                    if self.together.ended:
                        await send(_body(frames + self.last(), more=False))
                    elif frames:
                        await send(_body(frames))
            except ApiError as error:
                await send(_body(self.failed(error), more=False))

    @abstractmethod
    def first(self) -> bytes:
        """The frames before all pieces."""

    @abstractmethod
    def frame(self, index: int, piece: Piece) -> bytes:
        """Of a piece of the text with this index."""

    @abstractmethod
    def last(self) -> bytes:
        """The frames after all pieces."""

    @abstractmethod
    def failed(self, error: ApiError) -> bytes:
        """The last frame, when a text did not end by itself."""


class EventStream(Events):
    """The frames of one text, or of several with their indices."""

    def __init__(
        self,
        together: Together,
        telling: Telling,
        model: str,
        echoes: Sequence[str],
        several: bool = False,
        heartbeat_s: float = 0,
    ) -> None:
        """`model` as the request calls it; `echoes`: what each text begins with."""
        super().__init__(together, heartbeat_s)
        self._telling, self._model, self._echoes = telling, model, echoes
        self._several = several

    def first(self) -> bytes:
        echoes = enumerate(self._echoes)
        return b"".join(_frame({**self._index(i), "text": echo}) for i, echo in echoes if echo)

    def frame(self, index: int, piece: Piece) -> bytes:
        frames = self._telling.frame(piece, self._index(index))
        if piece.finish is None:
            return frames
        job = self.together.jobs[index]
        ended = {"finish_reason": piece.finish, "usage": usage([job]).model_dump()}
        return frames + _frame({**self._index(index), **ended, **self._whose(job)})

    def last(self) -> bytes:
        if not self._several:
            return DONE
        return _frame({"usage": self.together.usage().model_dump(), "model": self._model}) + DONE

    def failed(self, error: ApiError) -> bytes:
        spent = {"usage": self.together.usage().model_dump()}
        whose = {"model": self._model} if self._several else self._whose(self.together.jobs[0])
        return _frame({**errors.body(error), **spent, **whose})

    def _index(self, index: int) -> dict[str, int]:
        return {"index": index} if self._several else {}

    def _whose(self, job: Generation) -> dict[str, Any]:
        return {"model": self._model, "seed": job.sampling.seed}


def server_timing(*jobs: Job) -> dict[str, str]:
    """The header of a whole answer to these jobs, which have ended, in milliseconds: `queue`, the
    wait for a place in a batch; `first_token`, of texts, and `total`, both from the end of the
    request's headers. Of several jobs the longest wait and the earliest token.

    Source: https://www.w3.org/TR/server-timing/
    """
    arrived_s = jobs[0].arrived_s
    spans_s = {"queue": max(job.started_s - job.submitted_s for job in jobs)}
    first_s = [job.first_s for job in jobs if isinstance(job, Generation) and job.tokens]
    if first_s:
        spans_s["first_token"] = min(first_s) - arrived_s
    spans_s["total"] = perf_counter() - arrived_s
    told = ", ".join(f"{name};dur={1000 * span_s:.3f}" for name, span_s in spans_s.items())
    return {SERVER_TIMING: told}


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


def _frame(content: Mapping[str, Any]) -> bytes:
    data = json.dumps(content, ensure_ascii=False).translate(ESCAPED)
    return b"data: %b\n\n" % data.encode()


def _body(frames: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": frames, "more_body": more}
