"""What a running sequence keeps between two calls: a window (LuminaNet) or a KV cache (GPT-2).

Both hold a fixed pool of rows and are run on its first n rows, so the scheduler keeps the running
sequences compact. K tokens are drawn for each of them, inside the graph, whose calls draw J each:
all K (LuminaNet) or one (GPT-2). A quick draw is a single call, of as few tokens as a call can
draw: one, unless a graph has a number of its own.
All arrays and bindings are made once; a call allocates nothing.

Rows that are opened (opened.py) give the logits of a quick draw as well, and go on with the tokens
that they are told instead of those drawn.

Where a row must come out the same in a batch of any size, and kernels compute several rows at a
time, batches are filled up to whole groups by spare rows.

Shape legend: B rows of the pool, K tokens drawn together, J tokens of a call, W context,
A heads, D width of a head.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from luminanet import interface, sampling
from luminanet.artifact.manifest import Manifest
from luminanet.interface import (
    DRAWN,
    LENGTHS,
    LOGITS,
    LOGS,
    NEXT,
    READ,
    STEPS,
    TOKENS,
    Arrays,
    CacheGraphs,
    presents,
)
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling
from serving.engines.pages import Pages
from serving.runtimes.backend import Backend, Step

Buffers = dict[str, NDArray[Any]]
UNLIMITED = 2**63
QUICK = 1
"""Tokens of a quick draw, where the caller says how many a call draws."""
SPARE = 2
"""A cache keeps the memory of so many times the rows that run."""
GROUPS = (1, 2, 4, 8)
"""Rows that a kernel may compute at a time."""
EVERY, ALL_TO = 64, 64
"""Batch sizes that are tried: all up to ALL_TO, then every EVERY-th, and the largest."""


class Drawn(NamedTuple):
    """Token ids and log-probabilities [B, K]; NO_TOKEN where the network's answer was no number,
    and then what follows in the row means nothing."""

    ids_BK: NDArray[np.int64]
    logs_BK: NDArray[np.float32]


class Sequences(Protocol):
    """The running sequences of one model; only the engine's thread touches them."""

    bytes_per_sequence: int

    def join(self, row: int, prompt: Sequence[int], how: Sampling) -> bool:
        """Starts a sequence in `row`. Returns whether the network was run for its prompt."""

    def draw(self, rows: int, quick: bool = False) -> Drawn:
        """The next K tokens of the first `rows` rows, or as few as can be; valid until the next
        call. What a row draws beyond its `room` means nothing."""

    def room(self, prompt: int) -> int:
        """How many tokens can follow a prompt of so many."""

    def move(self, source: int, target: int) -> None:
        """Moves a sequence into a free row."""


class OpenSequences(Sequences, Protocol):
    """Sequences that are opened."""

    logits_BV: NDArray[np.float32]
    """What a quick draw drew its first token from."""

    def go_on(self, ids: Sequence[int]) -> None:
        """After a quick draw: the tokens that the first rows have instead of those drawn."""


class _Rows:
    """What both kinds have: how each row samples, what it drew, and a call for each batch size."""

    def __init__(self, max_batch: int, steps: int, group: int) -> None:
        self.count, self.group = -(-max_batch // group) * group, group
        self.asked: Buffers = {n: np.zeros(self.count, d) for n, d in sampling.INPUTS.items()}
        self.counts: list[NDArray[Any]] = [self.asked["positions"]]
        """What every token that a row draws raises by one."""
        self._all, self._steps = self._results(steps), steps
        self._drawn: dict[int, Buffers] = {}
        self._calls: dict[tuple[int, int], Step] = {}

    def _results(self, tokens: int) -> Buffers:
        shape = (self.count, tokens)
        return {DRAWN: np.zeros(shape, np.int64), LOGS: np.zeros(shape, np.float32)}

    def bind(
        self, backend: Backend, inputs: Buffers, outputs: Buffers, shared: Arrays, each: int
    ) -> None:
        """Calls that draw `each` tokens, a divisor of `steps`; their number may be bound as well
        as another. `inputs` and `outputs` have a row for each sequence, `shared` are for all."""
        self._drawn[each] = self._results(each)
        inputs, outputs = inputs | self.asked, self._drawn[each] | outputs
        for rows in range(self.group, self.count + 1, self.group):
            self._calls[rows, each] = backend.bind(
                {**{name: array[:rows] for name, array in inputs.items()}, **shared},
                {name: array[:rows] for name, array in outputs.items()},
            )

    def ask(self, row: int, how: Sampling) -> None:
        for name, value in sampling.asked(how).items():
            self.asked[name][row] = value

    def draw(self, rows: int, quick: bool) -> Drawn:
        each = min(self._drawn) if quick else max(self._drawn)
        count = each if quick else self._steps
        whole = -(-rows // self.group) * self.group
        if whole > rows:
            for array in self.asked.values():
                array[rows:whole] = array[0]  # so that a spare row asks for nothing else
        call, (ids_BJ, logs_BJ) = self._calls[whole, each], self._drawn[each].values()
        ids_BK, logs_BK = (array[:rows, :count] for array in self._all.values())
        for start in range(0, count, each):
            call()
            part = slice(start, start + each)
            ids_BK[:, part], logs_BK[:, part] = ids_BJ[:rows], logs_BJ[:rows]
            for count_B in self.counts:
                count_B[:rows] += each
        return Drawn(ids_BK, logs_BK)


class Windows:
    """LuminaNet: the state of a sequence is its last W token ids, and it never fills up."""

    def __init__(
        self,
        backend: Backend,
        manifest: Manifest,
        max_batch: int,
        steps: int,
        group: int = 1,
        opened: bool = False,
    ) -> None:
        self._rows, self.group = _Rows(max_batch, steps, group), group
        shape = (self._rows.count, manifest.context)
        self._tokens_BW: NDArray[np.int64] = np.full(shape, NO_TOKEN, np.int64)
        self.logits_BV = np.zeros((self._rows.count if opened else 0, manifest.vocab_size), "f4")
        self.bytes_per_sequence = self._tokens_BW[0].nbytes
        outputs: Buffers = {NEXT: self._tokens_BW} | ({LOGITS: self.logits_BV} if opened else {})
        steps_of_a_call = {QUICK, steps} if drawn_by(backend) is None else {steps}
        for each in {QUICK} if opened else steps_of_a_call:
            inputs: Buffers = {TOKENS: self._tokens_BW}
            self._rows.bind(backend, inputs, outputs, {STEPS: np.array(each, np.int64)}, each)

    def join(self, row: int, prompt: Sequence[int], how: Sampling) -> bool:
        self._tokens_BW[row, : -len(prompt)] = NO_TOKEN
        self._tokens_BW[row, -len(prompt) :] = prompt
        self._rows.ask(row, how)
        return False

    def draw(self, rows: int, quick: bool = False) -> Drawn:
        return self._rows.draw(rows, quick)

    def room(self, _prompt: int) -> int:
        return UNLIMITED

    def move(self, source: int, target: int) -> None:
        _move((self._tokens_BW, *self._rows.asked.values()), source, target)

    def go_on(self, ids: Sequence[int]) -> None:
        self._tokens_BW[: len(ids), -1] = ids


class Caches:
    """GPT-2: keys and values of every position, [B, A, W, D] per layer, updated in place, and the
    text itself.

    All of a prompt but its newest token is read in one call of its own, with batch 1 in the
    sequence's row, by the graph `prompts`; what it draws is thrown away. Rows of the pool that are
    not in use any more give their memory back.
    """

    def __init__(
        self,
        backend: Backend,
        prompts: Backend,
        manifest: Manifest,
        max_batch: int,
        steps: int,
        group: int = 1,
        opened: bool = False,
    ) -> None:
        self._each = each = drawn_by(backend) or steps
        self._rows, self.group = _Rows(max_batch, steps, group), group
        self._prompts, self._context = prompts, manifest.context
        count, graphs = self._rows.count, interface.of(manifest)
        assert isinstance(graphs, CacheGraphs)
        shape = (count, graphs.heads, graphs.context, graphs.width)
        self._pages, self._touched = Pages(graphs.pasts, shape), 0
        self._pool: Buffers = {**self._pages.arrays}
        self._tokens_BW: NDArray[np.int64] = np.zeros((count, manifest.context), np.int64)
        self._lengths_B: NDArray[np.int32] = np.zeros(count, np.int32)
        self._rows.counts.append(self._lengths_B)
        unused = (1, drawn_by(prompts) or steps)
        self._unused: Buffers = {
            DRAWN: np.zeros(unused, np.int64),
            LOGS: np.zeros(unused, np.float32),
            NEXT: np.zeros_like(self._tokens_BW[:1]),
        }
        self.bytes_per_sequence = sum(a[0].nbytes for a in (*self._pool.values(), self._tokens_BW))
        inputs: Buffers = {TOKENS: self._tokens_BW, LENGTHS: self._lengths_B, **self._pool}
        self.logits_BV = np.zeros((count if opened else 0, manifest.vocab_size), "f4")
        outputs: Buffers = {NEXT: self._tokens_BW, **presents(self._pool, each)}
        outputs |= {LOGITS: self.logits_BV} if opened else {}
        self._rows.bind(backend, inputs, outputs, {READ: np.array(1, np.int64)}, each)

    def join(self, row: int, prompt: Sequence[int], how: Sampling) -> bool:
        self._tokens_BW[row] = NO_TOKEN
        self._tokens_BW[row, : len(prompt)] = prompt
        self._lengths_B[row] = 0
        self._touched = max(self._touched, row + 1)
        self._rows.ask(row, how)
        known = len(prompt) - 1
        if known:
            self._read(row, known)
            self._lengths_B[row] = known
        return known > 0

    def draw(self, rows: int, quick: bool = False) -> Drawn:
        drawn = self._rows.draw(rows, quick)
        if self._touched > SPARE * rows:
            self._pages.give_back(SPARE * rows, self._touched)
            self._touched = SPARE * rows
        return drawn

    def room(self, prompt: int) -> int:
        """One more than there are free positions: the last token needs none."""
        return self._context - prompt + 1

    def move(self, source: int, target: int) -> None:
        text = (self._lengths_B, self._tokens_BW)
        _move((*text, *self._pool.values(), *self._rows.asked.values()), source, target)

    def go_on(self, ids: Sequence[int]) -> None:
        lengths_B = self._lengths_B[: len(ids)]
        lengths_B -= self._each - 1
        columns_B = np.minimum(lengths_B, self._context - 1)  # beyond it the last token needs none
        self._tokens_BW[np.arange(len(ids)), columns_B] = ids

    def _read(self, row: int, count: int) -> None:
        """Puts the first `count` tokens of a row into its cache."""
        rows = slice(row, row + 1)
        cache = {name: array[rows] for name, array in self._pool.items()}
        inputs: Buffers = {
            TOKENS: self._tokens_BW[rows],
            LENGTHS: self._lengths_B[rows],
            READ: np.array(count, np.int64),
            **cache,
            **{name: array[rows] for name, array in self._rows.asked.items()},
        }
        each = self._unused[DRAWN].shape[1]
        self._prompts.bind(inputs, {**self._unused, **presents(cache, each)})()


def drawn_by(backend: Backend) -> int | None:
    """Tokens that a call of a graph draws, None where the caller says how many."""
    (drawn,) = (tensor for tensor in backend.outputs if tensor.name == DRAWN)
    return drawn.shape[1]


def _move(per_row: Sequence[NDArray[Any]], source: int, target: int) -> None:
    for array in per_row:
        array[target] = array[source]


# ---------------------------------------------------------------------- before the first request


WAYS = (
    Sampling(temperature=0),
    Sampling(0.8, top_k=50),
    Sampling(1.0, top_k=5, top_p=0.5, min_p=0.1, repetition_penalty=1.2),
)
"""Together they lead through all branches of the sampler."""


def warm_up(sequences: Sequences, context: int, max_batch: int) -> None:
    """Runs every class of shapes once: the shortest and longest prompt, every batch size, and
    every way to sample at the smallest and largest."""
    sequences.join(0, [0] * context, WAYS[0])
    for rows in batch_sizes(max_batch):
        ways = WAYS if rows in (1, max_batch) else WAYS[1:2]
        for way in ways:
            for row in range(rows):
                sequences.join(row, [0], way)
            sequences.draw(rows, quick=True)
            sequences.draw(rows)
    sequences.draw(1)  # after which few rows are in use, as before the first request


def rows_agree(sequences: Sequences, vocab_size: int, max_batch: int) -> bool:
    """Whether rows come out the same to the bit in batches of all sizes, on this machine."""

    def drawn(rows: int) -> tuple[NDArray[Any], ...]:
        for row in range(rows):
            sequences.join(row, [(1 + 37 * row) % vocab_size], Sampling(seed=row))
        return tuple(array.copy() for array in sequences.draw(rows))

    expected = drawn(max_batch)
    return all(
        np.array_equal(found, wanted[:rows], equal_nan=True)
        for rows in batch_sizes(max_batch)
        for found, wanted in zip(drawn(rows), expected, strict=True)
    )


def batch_sizes(max_batch: int) -> Iterator[int]:
    """Those that are tried before the first request."""
    for rows in range(1, max_batch + 1):
        if rows <= ALL_TO or rows % EVERY == 0 or rows == max_batch:
            yield rows
