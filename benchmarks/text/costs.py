"""Text model -> what a token costs: products, state, and milliseconds on this machine.

Shape legend: B batch, W window, V vocabulary, K tokens a call.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.text.models import StepGraph, TextModel
from export.checks.timing import interleaved
from export.decoding.decode import decode_caches, decode_windows
from export.graph.builder import macs as products
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
    shapes = _shapes(graph)
    total = products(graph)
    for node in graph.graph.node:
        if node.op_type == "GroupQueryAttention":
            _, heads, _, width = shapes[node.input[3]]
            total += 2 * keys * heads * width
    return total


def state_bytes(graph: onnx.ModelProto, position: int = LAST) -> int:
    """What is kept of one sequence for its next token: keys and values up to `position`, or the
    token ids of a window."""
    shapes, caches = _shapes(graph), 0
    for name, sizes in shapes.items():
        if name.startswith("past_") and len(sizes) == 4:
            _, heads, context, width = sizes
            caches += heads * min(position + 1, context) * width * np.float32().nbytes
    return caches or shapes["token_ids"][1] * np.int64().nbytes


def _shapes(graph: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Inputs; a size that is free is 0."""
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in graph.graph.input
    }


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
    runtime = OrtCpu(graph.SerializeToString(), 1, STEP)
    state, presents = _state(graph, batch, position)
    vocab_size = runtime.outputs[0].shape[-1]
    assert runtime.outputs[0].name == "logits"
    assert vocab_size
    width = 1 if presents else state["token_ids"].shape[1]
    inputs = {**state, "token_ids": np.zeros((batch, width), np.int64)}
    inputs["token_ids"][:] = _tokens(batch, width, vocab_size)
    logits_BV = np.zeros((batch, vocab_size), np.float32)
    return runtime.bind(inputs, {"logits": logits_BV, **presents})


def _decode(graph: onnx.ModelProto, batch: int, position: int) -> Call:
    state, presents = _state(graph, batch, position)
    made = decode_caches(graph, 1) if presents else decode_windows(graph)
    runtime = OrtCpu(made.SerializeToString(), 1, DECODE)
    context = next(t.shape[1] for t in runtime.inputs if t.name == "token_ids")
    vocab_size = graph.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    assert context
    text_BC = _tokens(batch, context, vocab_size)
    inputs = {**state, "token_ids": text_BC}
    if not presents:
        inputs["steps"] = np.array(1)
    inputs |= asked_rows([Sampling(temperature=0)] * batch, position)
    outputs: Arrays = {
        "sampled_ids": np.zeros((batch, 1), np.int64),
        "log_probabilities": np.zeros((batch, 1), np.float32),
        "next_token_ids": text_BC,
        **{f"{name}.0": array for name, array in presents.items()},
    }
    return runtime.bind(inputs, outputs)


def _state(graph: onnx.ModelProto, batch: int, position: int) -> tuple[Arrays, Arrays]:
    """Inputs beside the tokens, and the caches as outputs, in the same memory."""
    rng, shapes = np.random.default_rng(0), _shapes(graph)
    state: Arrays = {"token_ids": np.zeros((batch, shapes["token_ids"][1]), np.int64)}
    for name, sizes in shapes.items():
        if name == "past_lengths":
            state[name] = np.full(batch, position, np.int32)
        elif name.startswith("past_"):
            state[name] = rng.normal(0, 1, (batch, *sizes[1:])).astype(np.float32)
    caches = {n: array for n, array in state.items() if array.ndim == 4}
    return state, {name.replace("past_", "present_"): array for name, array in caches.items()}


def _tokens(batch: int, width: int, vocab_size: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, vocab_size, (batch, width))
