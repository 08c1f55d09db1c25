"""What a running sequence keeps between two tokens: a window (LuminaNet) or a KV cache (GPT-2).

Both hold a fixed pool of rows and are run on its first n rows, so the scheduler keeps the running
sequences compact. All arrays and bindings are made once; a step allocates nothing.

Shape legend: B rows of the pool, W context, V vocabulary, A heads, K width of a head.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from luminanet.manifest import Manifest
from luminanet.reference import NO_TOKEN
from serving.runtime import Arrays, Backend
from serving.sampling import Logits


class Sequences(Protocol):
    """The running sequences of one model; only the engine's thread touches them."""

    bytes_per_sequence: int

    def join(self, row: int, prompt: Sequence[int]) -> Logits | None:
        """Starts a sequence in `row`. The logits [V] after the prompt when they are computed on
        joining; None when the next step gives them."""

    def append(self, row: int, token: int) -> None:
        """Adds the token that was chosen after the last logits of `row`."""

    def step(self, rows: int) -> Logits:
        """The logits [rows, V] of the first `rows` rows; valid until the next call."""

    def is_full(self, row: int, /) -> bool:
        """Whether the sequence can take no further token."""

    def move(self, source: int, target: int) -> None:
        """Moves a sequence into a free row."""


class Windows:
    """LuminaNet: the state of a sequence is its last W token ids, and it never fills up."""

    def __init__(self, backend: Backend, manifest: Manifest, max_batch: int) -> None:
        shape = (max_batch, manifest.context)
        self._tokens_BW: NDArray[np.int64] = np.full(shape, NO_TOKEN, np.int64)
        self._logits_BV: Logits = np.zeros((max_batch, manifest.vocab_size), np.float32)
        self.bytes_per_sequence = self._tokens_BW[0].nbytes
        self._steps = [
            backend.bind({"token_ids": self._tokens_BW[:n]}, {"logits": self._logits_BV[:n]})
            for n in range(1, max_batch + 1)
        ]

    def join(self, row: int, prompt: Sequence[int]) -> None:
        self._tokens_BW[row, : -len(prompt)] = NO_TOKEN
        self._tokens_BW[row, -len(prompt) :] = prompt

    def append(self, row: int, token: int) -> None:
        window_W = self._tokens_BW[row]
        window_W[:-1] = window_W[1:]
        window_W[-1] = token

    def step(self, rows: int) -> Logits:
        self._steps[rows - 1]()
        return self._logits_BV[:rows]

    def is_full(self, _row: int) -> bool:
        return False

    def move(self, source: int, target: int) -> None:
        self._tokens_BW[target] = self._tokens_BW[source]


class Caches:
    """GPT-2: keys and values of every position, [B, A, W, K] per layer, updated in place.

    A prompt is computed in one run of its own, with batch 1 in the sequence's row.
    """

    def __init__(self, backend: Backend, manifest: Manifest, max_batch: int) -> None:
        shape = (max_batch, manifest.heads, manifest.context, manifest.head_width)
        self._backend = backend
        self._context = manifest.context
        self._pool = {
            f"{part}.{layer}": np.zeros(shape, np.float32)
            for layer in range(manifest.layers)
            for part in ("keys", "values")
        }
        self._lengths_B: NDArray[np.int32] = np.zeros(max_batch, np.int32)
        self._tokens_B1: NDArray[np.int64] = np.zeros((max_batch, 1), np.int64)
        self._logits_BV: Logits = np.zeros((max_batch, manifest.vocab_size), np.float32)
        self.bytes_per_sequence = sum(array[0].nbytes for array in self._pool.values())
        self._steps = [
            backend.bind(*self._arrays(slice(n), self._tokens_B1[:n]))
            for n in range(1, max_batch + 1)
        ]

    def join(self, row: int, prompt: Sequence[int]) -> Logits:
        self._lengths_B[row] = 0
        tokens_1S = np.array([prompt], np.int64)
        self._backend.bind(*self._arrays(slice(row, row + 1), tokens_1S))()
        self._lengths_B[row] = len(prompt)
        logits_V: Logits = self._logits_BV[row]
        return logits_V

    def append(self, row: int, token: int) -> None:
        self._tokens_B1[row] = token

    def step(self, rows: int) -> Logits:
        self._steps[rows - 1]()
        self._lengths_B[:rows] += 1
        return self._logits_BV[:rows]

    def is_full(self, row: int) -> bool:
        return bool(self._lengths_B[row] >= self._context)

    def move(self, source: int, target: int) -> None:
        per_row: tuple[NDArray[Any], ...] = (*self._pool.values(), self._lengths_B, self._tokens_B1)
        for array in per_row:
            array[target] = array[source]

    def _arrays(self, rows: slice, tokens: NDArray[np.int64]) -> tuple[Arrays, Arrays]:
        """Inputs and outputs of one run over `rows`: present is the very memory of past."""
        past: dict[str, NDArray[Any]] = {f"past_{k}": v[rows] for k, v in self._pool.items()}
        present = {f"present_{k}": v[rows] for k, v in self._pool.items()}
        inputs = past | {"token_ids": tokens, "past_lengths": self._lengths_B[rows]}
        return inputs, {"logits": self._logits_BV[rows], **present}


def warm_up(sequences: Sequences, context: int, max_batch: int) -> None:
    """Runs every class of shapes once: the shortest and longest prompt, and every batch size."""
    sequences.join(0, [0] * context)
    for row in range(max_batch):
        sequences.join(row, [0])
    for rows in range(1, max_batch + 1):
        for row in range(rows):
            if sequences.is_full(row):
                sequences.join(row, [0])
        sequences.step(rows)
