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
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive

from luminanet.sampling import Token
from luminanet.tokenizer import Tokenizer
from serving.api.jobs.together import Together, joined
from serving.api.openai import errors
from serving.api.openai.schemas import Choice, Completion, Logprobs
from serving.api.streaming import DONE, Events, round_log, rounded, token_text
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
        each = zip(self.echoes, await self.together.each(receive), strict=True)
        texts = [joined([Piece(echo), *pieces]) for echo, pieces in each]
        choices = [self.choice(*text) for text in enumerate(texts)]
        return Completion(**self.head, choices=choices, usage=self.together.usage())


class CompletionStream(Events):
    """The frames of an answer."""

    def __init__(self, answer: Answer, with_usage: bool, heartbeat_s: float = 0) -> None:
        super().__init__(answer.together, heartbeat_s)
        self._answer = answer
        self._usage: dict[str, Any] = {"usage": None} if with_usage else {}

    def first(self) -> bytes:
        return b"".join(map(self._frame, self._answer.beginnings()))

    def frame(self, index: int, piece: Piece) -> bytes:
        return self._frame(self._answer.choice(index, piece))

    def last(self) -> bytes:
        return self._usage_frame() + DONE

    def failed(self, error: ApiError) -> bytes:
        return _frame(errors.body(error))

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
