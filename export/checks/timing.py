"""How long a graph takes on this machine: one thread, all candidates in turn."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from export.checks.verify import random_images
from export.graph.session import Session
from luminanet.errors import ExportError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet

ROUND_S = 0.004
"""A call is repeated for so long before it is another's turn."""

Name = TypeVar("Name", bound=Hashable)
Call = Callable[[NDArray[Any]], object]


def onnxruntime_call(model: onnx.ModelProto) -> Call:
    """Inputs -> logits with one thread.

    Raises ExportError for a graph that cannot run, MissingExtraError without onnxruntime.
    """
    session = Session(model, ExportError, "the graph", "take another --form", threads=1)
    (name,) = session.inputs
    return lambda inputs: session.run({name: inputs})


def example(net: FrozenNet, batch: int, seed: int = 0) -> NDArray[Any]:
    """Random inputs: images [B, C, Y, X], or full windows of token ids [B, W]."""
    rng, shape = np.random.default_rng(seed), net.topology.input
    if isinstance(shape, TextInput):
        return rng.integers(0, shape.vocab_size, (batch, shape.window))
    return random_images(shape, batch, rng)


def interleaved(calls: Mapping[Name, Callable[[], object]], rounds: int = 15) -> dict[Name, float]:
    """Median seconds of a call: all take turns, so that a slow moment slows all of them.

    Counts the time of this thread, in which everything runs: a busy machine does not matter.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = 1 + int(ROUND_S / max(_seconds(call, 3), 1e-6))
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(_seconds(call, repeats[name]))
    return {name: statistics.median(found) for name, found in seconds.items()}


def _seconds(call: Callable[[], object], repeats: int) -> float:
    begun = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - begun) / repeats
