"""The two text models as a server would run them: states, calls, and texts; for decode.py.

Shape legend: B batch, W window, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.decoding.decode import decode_caches, decode_windows
from export.gpt2.cached import unroll_gpt2
from export.network.unroll import unroll
from luminanet import interface
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import (
    DRAWN,
    LENGTHS,
    LOGITS,
    LOGS,
    NEXT,
    READ,
    TOKENS,
    cache_of,
    presents,
)
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling, asked_rows
from serving.runtimes.onnxruntime_cpu import OrtCpu

Arrays = dict[str, NDArray[Any]]
Call = Callable[[], None]
Draw = Callable[[NDArray[np.float32], int], int]
"""Logits [V] and a row -> a token."""
STEPS = (1, 4, 8)


def parameters(sampling: Sampling, rows: int) -> Arrays:
    """The sampler's inputs; row i has seed i."""
    return asked_rows([replace(sampling, seed=row) for row in range(rows)])


class LuminaNet:
    """A network as a server would run it; the state of a text is its window."""

    name = "LuminaNet"

    def __init__(self, net: FrozenNet) -> None:
        assert isinstance(net.topology.input, TextInput)
        self.window = net.topology.input.window
        self.vocab_size = net.topology.input.vocab_size
        step = unroll(net)
        self.step = OrtCpu(step.SerializeToString(), 1, "step")
        decoder = OrtCpu(decode_windows(step).SerializeToString(), 1, "decode")
        self.decoders = dict.fromkeys(STEPS, decoder)

    def state(self, prompts: Sequence[Sequence[int]]) -> Arrays:
        tokens_BW = np.full((len(prompts), self.window), NO_TOKEN)
        for row, prompt in zip(tokens_BW, prompts, strict=True):
            row[-len(prompt) :] = prompt[-self.window :]
        return {TOKENS: tokens_BW}

    def bound(self, state: Arrays, steps: int) -> tuple[Arrays, Arrays]:
        return {**state, interface.STEPS: np.array(steps)}, {NEXT: state[TOKENS]}

    def with_numpy(self, state: Arrays, draw: Draw) -> Call:
        tokens_BW = state[TOKENS]
        logits_BV = np.zeros((len(tokens_BW), self.vocab_size), np.float32)
        run = self.step.bind(state, {LOGITS: logits_BV})

        def call() -> None:
            run()
            for row, window_W in enumerate(tokens_BW):
                token = draw(logits_BV[row], row)
                window_W[:-1] = window_W[1:]
                window_W[-1] = token

        return call


class Gpt2:
    """The baseline; the state is the text, its length and the caches."""

    name = "GPT-2"

    def __init__(self, net: Gpt2Net) -> None:
        self.graphs = interface.of(net)
        self.vocab_size = net.config.vocab_size
        step = unroll_gpt2(net)
        self.step = OrtCpu(step.SerializeToString(), 1, "step")
        self.decoders = {
            steps: OrtCpu(decode_caches(step, steps).SerializeToString(), 1, "decode")
            for steps in STEPS
        }

    def state(self, prompts: Sequence[Sequence[int]]) -> Arrays:
        state = self.graphs.feeds(np.full((len(prompts), self.graphs.context), NO_TOKEN))
        logits_1V = np.zeros((1, self.vocab_size), np.float32)
        for row, prompt in enumerate(prompts):
            state[TOKENS][row, : len(prompt)] = prompt
            if len(prompt) > 1:
                own = {name: array[row : row + 1] for name, array in cache_of(state).items()}
                first: Arrays = {TOKENS: np.array([prompt[:-1]]), LENGTHS: np.zeros(1, np.int32)}
                self.step.bind({**first, **own}, {LOGITS: logits_1V, **presents(own)})()
            state[LENGTHS][row] = len(prompt) - 1
        return state

    def bound(self, state: Arrays, steps: int) -> tuple[Arrays, Arrays]:
        results = {NEXT: state[TOKENS], **presents(cache_of(state), steps)}
        return {**state, READ: np.array(1)}, results

    def with_numpy(self, state: Arrays, draw: Draw) -> Call:
        rows = len(state[TOKENS])
        newest_B1 = np.take_along_axis(
            state[TOKENS], state[LENGTHS][:, None].astype(np.int64), axis=1
        )
        logits_BV = np.zeros((rows, self.vocab_size), np.float32)
        inputs: Arrays = {**state, TOKENS: newest_B1}
        run = self.step.bind(inputs, {LOGITS: logits_BV, **presents(cache_of(state))})

        def call() -> None:
            run()
            for row in range(rows):
                newest_B1[row] = draw(logits_BV[row], row)

        return call


Model = LuminaNet | Gpt2


@dataclass(frozen=True, slots=True)
class Texts:
    """Calls that draw `steps` tokens a row; their ids [B, steps] are overwritten by each call."""

    call: Call
    ids: NDArray[np.int64]
    counts: tuple[NDArray[Any], ...]

    def go_on(self) -> None:
        self.call()
        for count in self.counts:
            count += self.ids.shape[1]


def decoding(model: Model, state: Arrays, asked: Arrays, steps: int) -> Texts:
    """Binds a decode graph to a state, in place."""
    inputs, results = model.bound(state, steps)
    shape = (len(state[TOKENS]), steps)
    ids, logs = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    outputs: Arrays = {DRAWN: ids, LOGS: logs, **results}
    call = model.decoders[steps].bind({**inputs, **asked}, outputs)
    counts = [asked["positions"], *(state[n] for n in state if n == LENGTHS)]
    return Texts(call, ids, tuple(counts))
