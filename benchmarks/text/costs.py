"""Text model -> what a token costs: products, state, and milliseconds on this machine.

Shape legend: B batch, W window, V vocabulary, K tokens a call.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.text.models import StepGraph, TextModel
from export.checks.timing import interleaved
from export.decoding.decode import decode_caches, decode_windows
from export.graph.count import macs as products
from export.graph.declare import declared
from luminanet.interface import (
    DRAWN,
    LENGTHS,
    LOGITS,
    LOGS,
    NEXT,
    READ,
    STEPS,
    TOKENS,
    CacheGraphs,
    ImageGraphs,
    WindowGraphs,
    presents,
)
from luminanet.sampling import Sampling, asked_rows
from serving.runtimes.onnxruntime_cpu import OrtCpu

POSITION = 128
"""Where a token is timed and its products are counted."""
LAST = 255
"""Where the state is measured."""
BATCHES = (1, 32)
FP32, INT8 = "fp32", "int8"
STEP, DECODE = "step", "decode"
KINDS = (STEP, DECODE)
"""The graph that gives logits, or that with the sampler inside, greedy, one token a call."""
Call = Callable[[], None]
Arrays = dict[str, NDArray[Any]]
Key = tuple[str, str, int]
"""Kind, precision, batch."""


def macs(graph: onnx.ModelProto, keys: int = POSITION) -> int:
    """Multiply-accumulates of one token whose attention looks at `keys` tokens: all products, the
    output layer's among them. Look-ups are free."""
    total, graphs = products(graph), declared(graph)
    if isinstance(graphs, CacheGraphs):
        total += graphs.layers * 2 * keys * graphs.heads * graphs.width
    return total


def state_bytes(graph: onnx.ModelProto, position: int = LAST) -> int:
    """What is kept of one sequence for its next token: keys and values up to `position`, or the
    token ids of a window."""
    graphs = declared(graph)
    assert not isinstance(graphs, ImageGraphs)
    if isinstance(graphs, WindowGraphs):
        return graphs.context * np.int64().nbytes
    kept = replace(graphs, context=min(position + 1, graphs.context))
    return sum(array.nbytes for array in kept.empty(1).values())


# ---------------------------------------------------------------------- milliseconds


def milliseconds(
    models: Sequence[TextModel], kinds: Sequence[str] = KINDS, rounds: int = 15
) -> list[dict[Key, float]]:
    """For every model: (kind, precision, batch) -> milliseconds of one more token of every row.

    One thread; for each key all models take turns. What an artifact has no graph for is left out.
    """
    graphs = [list(model.steps()) for model in models]
    found: list[dict[Key, float]] = [{} for _ in models]
    for kind in kinds:
        for precision in (FP32, INT8):
            for batch in BATCHES:
                chosen = {n: fitting(own, precision, batch) for n, own in enumerate(graphs)}
                calls = {n: call(g, kind, batch) for n, g in chosen.items() if g is not None}
                for number, seconds in interleaved(calls, rounds).items():
                    found[number][kind, precision, batch] = 1000 * seconds
    return found


def fitting(graphs: Sequence[StepGraph], precision: str, batch: int) -> onnx.ModelProto | None:
    """The graph that is meant for a batch of this size, as a server chooses it."""
    able = [g for g in graphs if g.precision.served == precision and g.from_batch <= batch]
    return max(able, key=lambda graph: graph.from_batch).model if able else None


def call(graph: onnx.ModelProto, kind: str, batch: int, position: int = POSITION) -> Call:
    """One step of a whole batch on one thread; what it reads and writes stays in place."""
    return _step(graph, batch, position) if kind == STEP else _decode(graph, batch, position)


def _step(graph: onnx.ModelProto, batch: int, position: int) -> Call:
    runtime, graphs = OrtCpu(graph.SerializeToString(), 1, STEP), declared(graph)
    assert not isinstance(graphs, ImageGraphs)
    state, cache = _state(graphs, batch, position)
    width = 1 if cache else graphs.context
    inputs = {TOKENS: _tokens(batch, width, graphs.vocab_size), **state, **cache}
    logits_BV = np.zeros((batch, graphs.vocab_size), np.float32)
    return runtime.bind(inputs, {LOGITS: logits_BV, **presents(cache)})


def _decode(graph: onnx.ModelProto, batch: int, position: int) -> Call:
    graphs = declared(graph)
    assert not isinstance(graphs, ImageGraphs)
    state, cache = _state(graphs, batch, position)
    made = decode_caches(graph, 1) if cache else decode_windows(graph)
    runtime = OrtCpu(made.SerializeToString(), 1, DECODE)
    text_BC = _tokens(batch, graphs.context, graphs.vocab_size)
    inputs = {TOKENS: text_BC, **state, **cache}
    inputs[READ if cache else STEPS] = np.array(1)
    inputs |= asked_rows([Sampling(temperature=0)] * batch, position)
    outputs: Arrays = {
        DRAWN: np.zeros((batch, 1), np.int64),
        LOGS: np.zeros((batch, 1), np.float32),
        NEXT: text_BC,
        **presents(cache, 1),
    }
    return runtime.bind(inputs, outputs)


def _state(graphs: WindowGraphs | CacheGraphs, batch: int, position: int) -> tuple[Arrays, Arrays]:
    """Inputs beside the tokens, and the cache."""
    if isinstance(graphs, WindowGraphs):
        return {}, {}
    rng, empty = np.random.default_rng(0), graphs.empty(batch)
    cache = {n: rng.normal(0, 1, a.shape).astype(np.float32) for n, a in empty.items()}
    return {LENGTHS: np.full(batch, position, np.int32)}, cache


def _tokens(batch: int, width: int, vocab_size: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, vocab_size, (batch, width))
