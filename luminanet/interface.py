"""What every graph takes and gives: names, types and shapes, by family and by role.

Exporters declare graphs from here, checks and benchmarks feed them, servers bind and refuse them.
A graph that gives logits:

    ImageGraphs    images float32 [batch, C, Y, X] in 0..1 -> logits float32 [batch, classes]
    WindowGraphs   token_ids int64 [batch, context], newest last, NO_TOKEN before the text
                   -> logits float32 [batch, vocab]
    CacheGraphs    token_ids int64 [batch, steps], past_lengths int32 [batch] (tokens in the cache
                   before), past_keys.N, past_values.N float32 [batch, heads, context, width of a
                   head] for every layer N
                   -> logits float32 [batch, vocab] after the last step, present_keys.N,
                   present_values.N

A graph that decodes takes the sampler's inputs too (SAMPLER, each [batch]), and gives

    sampled_ids int64 [batch, K], NO_TOKEN where the logits named no token (a NaN, for example):
        what follows in that row means nothing, and the other rows are as ever
    log_probabilities float32 [batch, K], natural, of the plain softmax at temperature 1
    next_token_ids int64 [batch, context], which may be bound to the memory of token_ids

    WindowGraphs   K given at each call by steps int64 []; token_ids is the window, as above
    CacheGraphs    K fixed when the graph is built; token_ids int64 [batch, context] is the text
                   from its beginning: column p holds token p, NO_TOKEN after the text. tokens_read
                   int64 [] of its tokens, from column past_lengths on, are not in the cache: they
                   are put there, and what is drawn follows them. More than one are read of a batch
                   of 1, or where all past_lengths are 0
                   -> present_keys.N.T, present_values.N.T for every step T < K

A cache is a dict of arrays by the names of its pasts. Every present of layer N may be bound to the
very buffer of past N (`presents`), and of a graph that decodes it must be: the cache is updated in
place. Shape legend: B batch, S steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from luminanet.artifact.manifest import Family, Manifest, Role, Task
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.sampling import INPUTS

IMAGES, TOKENS, LENGTHS = "images", "token_ids", "past_lengths"
STEPS, READ = "steps", "tokens_read"
LOGITS, DRAWN, LOGS, NEXT = "logits", "sampled_ids", "log_probabilities", "next_token_ids"
PARTS = ("keys", "values")
"""What a cache holds of every layer."""
_PAST, _PRESENT = "past_", "present_"

IMAGE_SHAPE = (3, 32, 32)
"""Colour channels, rows and columns of the pictures that an artifact classifies."""

Arrays = Mapping[str, NDArray[Any]]
Held = TypeVar("Held")
"""An array, or what a runtime keeps it in."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph; a dimension that is None is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} {self.dtype}[{dims}]"


SAMPLER = tuple(Tensor(name, np.dtype(dtype).name, (None,)) for name, dtype in INPUTS.items())
"""The inputs of the sampler in a graph that decodes; sampling.asked_rows gives their values."""


class Interface(NamedTuple):
    """Inputs and outputs of a graph, in their order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


# ---------------------------------------------------------------------- the families


@dataclass(frozen=True, slots=True)
class ImageGraphs:
    """LuminaNet for images: `shape` is channels, rows, columns."""

    shape: tuple[int, int, int]
    classes: int

    @property
    def row_bytes(self) -> int:
        """What one row of a batch is bound to."""
        return 4 * prod(self.shape) + 4 * self.classes

    def logits(self) -> Interface:
        return Interface(
            (Tensor(IMAGES, "float32", (None, *self.shape)),), (_logits(self.classes),)
        )

    def feeds(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The inputs of a run on images [B, C, Y, X]."""
        return {IMAGES: images}


@dataclass(frozen=True, slots=True)
class WindowGraphs:
    """LuminaNet for text: the state of a sequence is its last `context` tokens."""

    context: int
    vocab_size: int

    @property
    def row_bytes(self) -> int:
        """What one row of a batch is bound to."""
        return 8 * self.context + 4 * self.vocab_size

    def logits(self) -> Interface:
        return Interface((_tokens(self.context),), (_logits(self.vocab_size),))

    def decode(self, steps: int = 0) -> Interface:
        """Takes the number of steps as an input; `steps` has to be 0, as in GraphEntry."""
        assert steps == 0, "windows decode as many tokens as a call asks for"
        count = Tensor(STEPS, "int64", ())
        return Interface((_tokens(self.context), count, *SAMPLER), _drawn(None, self.context))

    def feeds(self, tokens_BW: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The inputs of a run on windows [B, context]."""
        return {TOKENS: tokens_BW}


@dataclass(frozen=True, slots=True)
class CacheGraphs:
    """GPT-2: keys and values of `context` positions for each of `layers`, with `heads` heads of
    `width` numbers."""

    context: int
    vocab_size: int
    layers: int
    heads: int
    width: int

    @property
    def row_bytes(self) -> int:
        """What one row of a batch is bound to."""
        cache = len(PARTS) * 4 * self.layers * self.heads * self.context * self.width
        return cache + 8 * self.context + 4 * self.vocab_size

    def logits(self) -> Interface:
        written = self._caches(presents(dict.fromkeys(self.pasts)))
        inputs = (_tokens(None), Tensor(LENGTHS, "int32", (None,)), *self._caches(self.pasts))
        return Interface(inputs, (_logits(self.vocab_size), *written))

    def decode(self, steps: int) -> Interface:
        """Draws `steps` tokens a call."""
        lengths, read = Tensor(LENGTHS, "int32", (None,)), Tensor(READ, "int64", ())
        written = self._caches(presents(dict.fromkeys(self.pasts), steps))
        inputs = (_tokens(self.context), lengths, read, *self._caches(self.pasts), *SAMPLER)
        return Interface(inputs, (*_drawn(steps, self.context), *written))

    @property
    def pasts(self) -> tuple[str, ...]:
        """The names of a cache, in the order of the graph's inputs."""
        return tuple(past(part, layer) for layer in range(self.layers) for part in PARTS)

    def empty(self, rows: int) -> dict[str, NDArray[Any]]:
        """The cache before the first token."""
        shape = (rows, self.heads, self.context, self.width)
        return {name: np.zeros(shape, np.float32) for name in self.pasts}

    def feeds(self, tokens_BS: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The inputs of a run on prompts [B, S], with nothing before them."""
        rows = len(tokens_BS)
        return {TOKENS: tokens_BS, LENGTHS: np.zeros(rows, np.int32), **self.empty(rows)}

    def _caches(self, names: tuple[str, ...] | Mapping[str, Any]) -> tuple[Tensor, ...]:
        shape = (None, self.heads, self.context, self.width)
        return tuple(Tensor(name, "float32", shape) for name in names)


Graphs = ImageGraphs | WindowGraphs | CacheGraphs


def _tokens(count: int | None) -> Tensor:
    return Tensor(TOKENS, "int64", (None, count))


def _logits(count: int) -> Tensor:
    return Tensor(LOGITS, "float32", (None, count))


def _drawn(steps: int | None, context: int) -> tuple[Tensor, ...]:
    ids, logs = Tensor(DRAWN, "int64", (None, steps)), Tensor(LOGS, "float32", (None, steps))
    return ids, logs, Tensor(NEXT, "int64", (None, context))


# ---------------------------------------------------------------------- of a network or an artifact


@overload
def of(source: Gpt2Net) -> CacheGraphs: ...
@overload
def of(source: FrozenNet) -> ImageGraphs | WindowGraphs: ...
@overload
def of(source: Manifest | FrozenNet | Gpt2Net) -> Graphs: ...


def of(source: Manifest | FrozenNet | Gpt2Net) -> Graphs:
    """The graphs of a network, or of an artifact."""
    if isinstance(source, Gpt2Net):
        c = source.config
        return CacheGraphs(c.context, c.vocab_size, c.layers, c.heads, c.width // c.heads)
    if isinstance(source, FrozenNet):
        shape = source.topology.input
        if isinstance(shape, TextInput):
            return WindowGraphs(shape.window, shape.vocab_size)
        sizes = (shape.channels, shape.height, shape.width)
        return ImageGraphs(sizes, source.topology.outputs)
    m = source
    if m.task is Task.CLASSIFICATION:
        return ImageGraphs(IMAGE_SHAPE, len(m.labels))
    if m.family is Family.LUMINANET:
        return WindowGraphs(m.context, m.vocab_size)
    return CacheGraphs(m.context, m.vocab_size, m.layers, m.heads, m.head_width)


def interface(manifest: Manifest, role: Role = Role.LOGITS, steps: int = 0) -> Interface:
    """The inputs and outputs of a graph of this manifest; `steps` is GraphEntry.steps."""
    graphs = of(manifest)
    if role is Role.LOGITS:
        return graphs.logits()
    assert not isinstance(graphs, ImageGraphs), "a manifest whose images decode is refused"
    return graphs.decode(steps)


# ---------------------------------------------------------------------- the names of a cache


def past(part: str, layer: int) -> str:
    """`part` is one of PARTS."""
    return f"{_PAST}{part}.{layer}"


def is_past(name: str) -> bool:
    """Whether an input is a part of a cache."""
    return name.startswith(tuple(f"{_PAST}{part}." for part in PARTS))


def cache_of(inputs: Mapping[str, Held]) -> dict[str, Held]:
    """The cache among the inputs of a graph; empty where it has none."""
    return {name: held for name, held in inputs.items() if is_past(name)}


def present(past: str, step: int | None = None) -> str:
    """What a graph gives for a past; `step` is that of a graph that decodes."""
    name = past.replace(_PAST, _PRESENT, 1)
    return name if step is None else f"{name}.{step}"


def presents(cache: Mapping[str, Held], steps: int | None = None) -> dict[str, Held]:
    """Outputs in the memory of a cache: of a graph that gives logits, or that decodes `steps`."""
    numbers = [None] if steps is None else range(steps)
    return {present(name, number): held for number in numbers for name, held in cache.items()}


def carried(found: Mapping[str, Held]) -> dict[str, Held]:
    """The cache among the outputs of a graph that gives logits: the pasts of its next run."""
    return {
        name.replace(_PRESENT, _PAST, 1): held
        for name, held in found.items()
        if name.startswith(_PRESENT)
    }
