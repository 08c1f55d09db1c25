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
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
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
        return {"token_ids": tokens_BW}

    def bound(self, state: Arrays, steps: int) -> tuple[Arrays, Arrays]:
        return {**state, "steps": np.array(steps)}, {"next_token_ids": state["token_ids"]}

    def with_numpy(self, state: Arrays, draw: Draw) -> Call:
        tokens_BW = state["token_ids"]
        logits_BV = np.zeros((len(tokens_BW), self.vocab_size), np.float32)
        run = self.step.bind(state, {"logits": logits_BV})

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
        self.config = net.config
        self.vocab_size = net.config.vocab_size
        step = unroll_gpt2(net)
        self.step = OrtCpu(step.SerializeToString(), 1, "step")
        self.decoders = {
            steps: OrtCpu(decode_caches(step, steps).SerializeToString(), 1, "decode")
            for steps in STEPS
        }

    def state(self, prompts: Sequence[Sequence[int]]) -> Arrays:
        c, rows = self.config, len(prompts)
        shape = (rows, c.heads, c.context, c.width // c.heads)
        kinds = [f"{kind}.{n}" for kind in ("keys", "values") for n in range(c.layers)]
        state: Arrays = {f"past_{kind}": np.zeros(shape, np.float32) for kind in kinds}
        state["token_ids"] = np.full((rows, c.context), NO_TOKEN)
        state["past_lengths"] = np.zeros(rows, np.int32)
        logits_1V = np.zeros((1, c.vocab_size), np.float32)
        for row, prompt in enumerate(prompts):
            state["token_ids"][row, : len(prompt)] = prompt
            state["past_lengths"][row] = len(prompt) - 1
            if len(prompt) > 1:
                own = {name: state[name][row : row + 1] for name in state if "." in name}
                past = {"token_ids": np.array([prompt[:-1]]), "past_lengths": np.zeros(1, np.int32)}
                present = {name.replace("past", "present"): own[name] for name in own}
                self.step.bind({**own, **past}, {"logits": logits_1V, **present})()
        return state

    def bound(self, state: Arrays, steps: int) -> tuple[Arrays, Arrays]:
        results: Arrays = {"next_token_ids": state["token_ids"]}
        for tensor in self.decoders[steps].outputs:
            if "." in tensor.name:
                kind, layer, _ = tensor.name.split(".")
                results[tensor.name] = state[f"{kind.replace('present', 'past')}.{layer}"]
        return state, results

    def with_numpy(self, state: Arrays, draw: Draw) -> Call:
        rows = len(state["token_ids"])
        newest_B1 = np.take_along_axis(
            state["token_ids"], state["past_lengths"][:, None].astype(np.int64), axis=1
        )
        logits_BV = np.zeros((rows, self.vocab_size), np.float32)
        present = {name.replace("past", "present"): state[name] for name in state if "." in name}
        inputs: Arrays = {**state, "token_ids": newest_B1}
        run = self.step.bind(inputs, {"logits": logits_BV, **present})

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
    shape = (len(state["token_ids"]), steps)
    ids, logs = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    outputs: Arrays = {"sampled_ids": ids, "log_probabilities": logs, **results}
    call = model.decoders[steps].bind({**inputs, **asked}, outputs)
    counts = [asked["positions"], *(state[n] for n in state if n == "past_lengths")]
    return Texts(call, ids, tuple(counts))
