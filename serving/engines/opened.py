"""Rows whose logits leave the graph: for what the sampler inside the decode graphs does not know.

That is logit_bias and min_tokens, the most likely tokens beside each, and scores of a prompt. Such
rows lie apart from the others, in a graph that gives logits, and take one token a call: drawn by
the oracle itself (luminanet/sampling.py), or given, where the prompt is scored. So a prompt is read
a token at a time by the very steps that continue it, and holds running texts up for one at a time.

Shape legend: B rows, V vocabulary, W context.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from luminanet import interface, sampling
from luminanet.artifact.manifest import Manifest
from luminanet.interface import LENGTHS, LOGITS, TOKENS, Arrays, CacheGraphs, cache_of, presents
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling, Token
from serving.engines.pages import Pages
from serving.engines.sequences import SPARE, Buffers
from serving.runtimes.backend import Backend, Step


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


class State(Protocol):
    """What a network keeps of the rows."""

    def join(self, row: int, text: Sequence[int]) -> None:
        """Starts a sequence in `row` with all of a text."""

    def logits(self, rows: int) -> NDArray[np.float32]:
        """What may follow the first rows [B, V]; valid until the next call. Once a token."""

    def push(self, ids: Sequence[int]) -> None:
        """The tokens that the first rows go on with."""

    def move(self, source: int, target: int) -> None:
        """Moves a sequence into a free row."""


class Opened:
    """The running sequences of one model whose logits are asked for; only the engine's thread
    touches them."""

    def __init__(self, state: State, context: int) -> None:
        self._state, self._context = state, context
        self._rows: dict[int, _Row] = {}

    def join(self, row: int, prompt: Sequence[int], how: Sampling, wish: Wish) -> bool:
        """Starts a sequence in `row`. Returns whether its prompt was read at once."""
        begun = prompt[:1] if wish.prompt else prompt
        self._rows[row] = _Row(how, wish.top, list(begun), deque(prompt[len(begun) :]))
        self._state.join(row, begun)
        return len(begun) > 1

    def draw(self, rows: int) -> list[Told]:
        """The next token of each of the first rows."""
        logits_BV = self._state.logits(rows)
        told = [self._next(self._rows[row], logits_BV[row]) for row in range(rows)]
        self._state.push([max(0, one.token.id) for one in told])
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


# ---------------------------------------------------------------------- of the two families


class _Calls:
    """Runs of a graph over the first rows: together, or each alone where a row must come out the
    same in any company. Each is bound when it is first needed: most servers never are asked."""

    def __init__(self, backend: Backend, inputs: Buffers, outputs: Buffers, alone: bool) -> None:
        self._backend, self._inputs, self._outputs, self._alone = backend, inputs, outputs, alone
        self._bound: dict[tuple[int, int], Step] = {}

    def run(self, rows: int) -> None:
        for span in [(row, row + 1) for row in range(rows)] if self._alone else [(0, rows)]:
            if span not in self._bound:
                self._bound[span] = self._backend.bind(
                    _rows(self._inputs, *span), _rows(self._outputs, *span)
                )
            self._bound[span]()


class OpenWindows:
    """LuminaNet: the state of a sequence is its last W token ids."""

    def __init__(self, backend: Backend, manifest: Manifest, rows: int, alone: bool) -> None:
        self._tokens_BW = np.full((rows, manifest.context), NO_TOKEN, np.int64)
        self._logits_BV = np.zeros((rows, manifest.vocab_size), np.float32)
        outputs: Buffers = {LOGITS: self._logits_BV}
        self._calls = _Calls(backend, {TOKENS: self._tokens_BW}, outputs, alone)

    def join(self, row: int, text: Sequence[int]) -> None:
        self._tokens_BW[row] = NO_TOKEN
        self._tokens_BW[row, -len(text) :] = text

    def logits(self, rows: int) -> NDArray[np.float32]:
        self._calls.run(rows)
        return self._logits_BV[:rows]

    def push(self, ids: Sequence[int]) -> None:
        windows = self._tokens_BW[: len(ids)]
        windows[:, :-1] = windows[:, 1:]
        windows[:, -1] = ids

    def move(self, source: int, target: int) -> None:
        self._tokens_BW[target] = self._tokens_BW[source]


class OpenCaches:
    """GPT-2: keys and values of every position, [B, A, W, D] per layer, updated in place, and the
    newest token, which is not in them yet. What precedes it in a text is read in one call."""

    def __init__(self, backend: Backend, manifest: Manifest, rows: int, alone: bool) -> None:
        graphs = interface.of(manifest)
        assert isinstance(graphs, CacheGraphs)
        shape = (rows, graphs.heads, graphs.context, graphs.width)
        self._backend, self._pages, self._touched = backend, Pages(graphs.pasts, shape), 0
        self._newest_B1 = np.zeros((rows, 1), np.int64)
        self._lengths_B = np.zeros(rows, np.int32)
        self._logits_BV = np.zeros((rows, manifest.vocab_size), np.float32)
        self._state: Buffers = {LENGTHS: self._lengths_B, **self._pages.arrays}
        outputs: Buffers = {LOGITS: self._logits_BV, **presents(self._pages.arrays)}
        self._calls = _Calls(backend, {TOKENS: self._newest_B1, **self._state}, outputs, alone)

    def join(self, row: int, text: Sequence[int]) -> None:
        self._touched = max(self._touched, row + 1)
        self._lengths_B[row] = 0
        self._newest_B1[row] = text[-1]
        if len(text) > 1:
            inputs = {TOKENS: np.array([text[:-1]]), **_rows(self._state, row, row + 1)}
            unused: Buffers = {LOGITS: np.zeros_like(self._logits_BV[:1])}
            self._backend.bind(inputs, {**unused, **presents(cache_of(inputs))})()
            self._lengths_B[row] = len(text) - 1

    def logits(self, rows: int) -> NDArray[np.float32]:
        self._calls.run(rows)
        self._lengths_B[:rows] += 1
        if self._touched > SPARE * rows:
            self._pages.give_back(SPARE * rows, self._touched)
            self._touched = SPARE * rows
        return self._logits_BV[:rows]

    def push(self, ids: Sequence[int]) -> None:
        self._newest_B1[: len(ids), 0] = ids

    def move(self, source: int, target: int) -> None:
        for array in (self._newest_B1, *self._state.values()):
            array[target] = array[source]


def _rows(arrays: Arrays, start: int, stop: int) -> Buffers:
    return {name: array[start:stop] for name, array in arrays.items()}
