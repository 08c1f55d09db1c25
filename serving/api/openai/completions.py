"""Several generations as one answer: whole, or as the chunks of a stream.

The frames of a stream; choices come in any order, each with its texts in their own:

    data: {.., "choices": [{"text", "index", "logprobs", "finish_reason"}]}
    data: {.., "choices": [], "usage"}        after all of them, where the request asks for it
    data: [DONE]
    data: {"error": {"message", "type", "param", "code"}}   instead of the rest, on a failure
    : waiting                                 a comment, after heartbeat_s of silence
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luminanet.sampling import Token
from luminanet.tokenizer import Tokenizer
from serving.api.openai import errors
from serving.api.openai.schemas import Choice, Completion, Logprobs
from serving.api.streaming import (
    DONE,
    HEADERS,
    HEARTBEAT,
    joined,
    round_log,
    rounded,
    token_text,
    watched,
)
from serving.api.together import Together
from serving.engines.text import Piece
from serving.errors import ApiError


class TokenLogs:
    """Pieces of one text -> what OpenAI tells of their tokens."""

    def __init__(self, tokenizer: Tokenizer, top: bool = False) -> None:
        """`top`: whether the pieces have the most likely tokens as well."""
        self._tokenizer, self._top = tokenizer, top
        self._stream = tokenizer.stream()
        self._offset = 0

    def take(self, piece: Piece) -> Logprobs:
        names = [token_text(self._tokenizer, token) for token in piece.ids]
        logs = rounded(piece.logs)
        tops = None
        if self._top:
            tops = [self._named(*one) for one in zip(names, logs, piece.tops, strict=True)]
        return Logprobs(
            tokens=names,
            token_logprobs=logs,
            text_offset=list(self._offsets(piece.ids)),
            top_logprobs=tops,
        )

    def _named(self, name: str, log: float | None, top: Sequence[Token]) -> dict[str, float] | None:
        if log is None:
            return None
        named = {token_text(self._tokenizer, one.id): round_log(one.log_probability) for one in top}
        return named | {name: log}

    def _offsets(self, ids: Sequence[int]) -> Iterator[int]:
        for token in ids:
            yield self._offset
            self._offset += len(self._stream.push(token))


@dataclass(frozen=True, slots=True)
class Answer:
    """What all chunks of one answer share, and how its choices are told."""

    together: Together
    head: dict[str, Any]
    """id, object, created, model and system_fingerprint."""
    echoes: Sequence[str]
    """What each text begins with."""
    logs: Sequence[TokenLogs] | None

    def choice(self, index: int, piece: Piece) -> Choice:
        return Choice(
            text=piece.text,
            index=index,
            logprobs=self.logs[index].take(piece) if self.logs else None,
            finish_reason=piece.finish,
        )

    def beginnings(self) -> list[Choice]:
        return [self.choice(i, Piece(echo)) for i, echo in enumerate(self.echoes) if echo]

    async def whole(self, receive: Receive) -> Completion:
        """Raises ApiError when a text did not end by itself."""
        parts = zip(self.echoes, await self.together.wholes(receive), strict=True)
        texts = [joined([Piece(echo), own]) for echo, own in parts]
        choices = [self.choice(*text) for text in enumerate(texts)]
        return Completion(**self.head, choices=choices, usage=self.together.usage())


class CompletionStream(Response):
    """The frames of an answer. Those that wait together are sent together."""

    def __init__(self, answer: Answer, with_usage: bool, heartbeat_s: float = 0) -> None:
        """`heartbeat_s` of 0: no comments."""
        super().__init__(headers=HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._answer = answer
        self._patience_s = heartbeat_s or None
        self._usage: dict[str, Any] = {"usage": None} if with_usage else {}

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        together = self._answer.together
        pieces = together.pieces(self._patience_s)
        async with watched(together, receive), aclosing(pieces) as news:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(_body(b"".join(map(self._frame, self._answer.beginnings()))))
            try:
                async for new in news:
                    choices = [self._answer.choice(*piece) for piece in new]
                    await send(_body(b"".join(map(self._frame, choices)) or HEARTBEAT))
                last = self._usage_frame() + DONE
            except ApiError as error:
                last = _frame(errors.body(error))
            await send(_body(last, more=False))

    def _frame(self, choice: Choice) -> bytes:
        return _chunk(Completion(**self._answer.head, choices=[choice], **self._usage))

    def _usage_frame(self) -> bytes:
        if not self._usage:
            return b""
        usage = self._answer.together.usage()
        return _chunk(Completion(**self._answer.head, choices=[], usage=usage))


def _chunk(completion: Completion) -> bytes:
    return _frame(completion.model_dump(exclude_unset=True))


def _frame(content: dict[str, Any]) -> bytes:
    """In ASCII: some clients take other ends of lines for those of a frame."""
    return b"data: %b\n\n" % json.dumps(content).encode()


def _body(frames: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": frames, "more_body": more}
