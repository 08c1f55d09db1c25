"""Rows whose logits leave the graph: for what the sampler inside the decode graphs does not know.

That is logit_bias and min_tokens, the most likely tokens beside each, and scores of a prompt. Such
rows lie apart from the others and take one token a call of the same graph, which draws in vain:
theirs are drawn by the oracle itself (luminanet/sampling.py), or given, where the prompt is scored.
So a prompt is read by the very steps that continue it, and running texts wait for one at a time.

Shape legend: B rows, V vocabulary.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luminanet import sampling
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling, Token
from serving.engines.sequences import OpenSequences

IN_VAIN = Sampling(temperature=0)
"""What is drawn and not used: for greedy rows the graphs compute least."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a row asks for beside its text: the `top` most likely tokens beside each of its tokens,
    and whether its prompt's tokens are told as well."""

    top: int = 0
    prompt: bool = False

    def __bool__(self) -> bool:
        return self.top > 0 or self.prompt


class Told(NamedTuple):
    """A token, those most likely in its place, and whether it was given by the prompt."""

    token: Token
    top: tuple[Token, ...]
    given: bool


@dataclass(slots=True)
class _Row:
    how: Sampling
    top: int
    text: list[int]
    given: deque[int]
    """Tokens of the prompt that are still to come."""
    drawn: int = 0


class Opened:
    """The running sequences of one model whose logits are asked for; only the engine's thread
    touches them."""

    def __init__(self, state: OpenSequences, context: int) -> None:
        self._state, self._context = state, context
        self._rows: dict[int, _Row] = {}

    def join(self, row: int, prompt: Sequence[int], how: Sampling, wish: Wish) -> bool:
        """Starts a sequence in `row`. Returns whether its prompt was read at once."""
        begun = prompt[:1] if wish.prompt else prompt
        self._rows[row] = _Row(how, wish.top, list(begun), deque(prompt[len(begun) :]))
        return self._state.join(row, begun, IN_VAIN)

    def draw(self, rows: int) -> list[Told]:
        """The next token of each of the first rows."""
        self._state.draw(rows, quick=True)
        told = [self._next(self._rows[row], self._state.logits_BV[row]) for row in range(rows)]
        self._state.go_on([max(0, one.token.id) for one in told])
        return told

    def move(self, source: int, target: int) -> None:
        self._state.move(source, target)
        self._rows[target] = self._rows.pop(source)

    def _next(self, row: _Row, logits_V: NDArray[np.float32]) -> Told:
        given = bool(row.given)
        if not np.isfinite(logits_V.max()):
            return Told(Token(NO_TOKEN, math.nan), (), given)
        logs_V = sampling.log_softmax(logits_V.astype(np.float64))
        if given:
            next_id = row.given.popleft()
            token = Token(next_id, float(logs_V[next_id]))
        else:
            token = sampling.choose(logits_V, row.text[-self._context :], row.how, row.drawn)
            row.drawn += 1
        row.text.append(token.id)
        return Told(token, sampling.most_likely(logs_V, row.top), given)
