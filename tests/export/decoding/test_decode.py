"""Texts do not depend on the batch, the place in it, or on how many tokens a call draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.decoding.decode import decode_caches, decode_windows
from export.gpt2.cached import unroll_gpt2
from export.graph.builder import MICROSOFT
from export.network.lowerings import Form
from export.network.unroll import unroll
from luminanet.errors import ExportError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.reference import NO_TOKEN
from luminanet.sampling import INPUTS, Sampling, choose
from tests.nets import random_gpt2, random_net, random_weights, tiny_text_topology
from training.checkpoint import load

Arrays = dict[str, NDArray[Any]]
PRETRAINED = Path(__file__).parents[3] / "pretrained"
K = (1, 4, 8)


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def parameters(rng: np.random.Generator, rows: int) -> Arrays:
    chosen = {
        "temperature": rng.choice([0, 0.5, 0.8, 1.2], rows),
        "top_k": rng.choice([0, 0, 5, 50], rows),
        "top_p": rng.choice([1, 1, 0.95, 0.5], rows),
        "min_p": rng.choice([0, 0, 0.05], rows),
        "repetition_penalty": rng.choice([1, 1.2], rows),
        "seeds": rng.integers(0, 2**63 - 1, rows),
        "positions": np.zeros(rows),
    }
    return {name: array.astype(INPUTS[name]) for name, array in chosen.items()}


def picked(arrays: Arrays, rows: NDArray[np.int64]) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


class Windows:
    """Draws texts as serving does: state and parameters are bound once, updated in place."""

    def __init__(self, net: FrozenNet) -> None:
        self.session = session(decode_windows(unroll(net)))

    def text(self, state: Arrays, asked: Arrays, tokens: int, steps: int) -> list[NDArray[Any]]:
        """Ids and log-probabilities [B, tokens]."""
        window_BW, asked = state["token_ids"].copy(), picked(asked, np.arange(len(asked["seeds"])))
        shape = (len(window_BW), steps)
        results: Arrays = {
            "sampled_ids": np.zeros(shape, np.int64),
            "log_probabilities": np.zeros(shape, np.float32),
            "next_token_ids": window_BW,
        }
        inputs = {"token_ids": window_BW, "steps": np.array(steps), **asked}
        return run(self.session, inputs, results, asked, tokens)


class Caches:
    """The same for GPT-2; `fill` computes the caches of prompts."""

    def __init__(self, net: Gpt2Net) -> None:
        self.config = net.config
        step = unroll_gpt2(net)
        self.prompt = session(step)
        self.sessions = {steps: session(decode_caches(step, steps)) for steps in K}

    def fill(self, prompts: list[NDArray[np.int64]]) -> Arrays:
        c, rows = self.config, len(prompts)
        shape = (rows, c.heads, c.context, c.width // c.heads)
        names = [f"{kind}.{n}" for kind in ("keys", "values") for n in range(c.layers)]
        state: Arrays = {f"past_{name}": np.zeros(shape, np.float32) for name in names}
        state["token_ids"] = np.full((rows, c.context), NO_TOKEN)
        state["past_lengths"] = np.array([len(p) - 1 for p in prompts], np.int32)
        for row, prompt in enumerate(prompts):
            state["token_ids"][row, : len(prompt)] = prompt
            if len(prompt) > 1:
                own = {name: state[f"past_{name}"][row : row + 1] for name in names}
                feeds = {f"past_{name}": array for name, array in own.items()}
                feeds |= {"token_ids": prompt[None, :-1], "past_lengths": np.zeros(1, np.int32)}
                outputs = [f"present_{name}" for name in names]
                for name, filled in zip(names, self.prompt.run(outputs, feeds), strict=True):
                    own[name][:] = filled
        return state

    def text(self, state: Arrays, asked: Arrays, tokens: int, steps: int) -> list[NDArray[Any]]:
        state = picked(state, np.arange(len(asked["seeds"])))
        asked = picked(asked, np.arange(len(asked["seeds"])))
        shape = (len(state["token_ids"]), steps)
        results: Arrays = {
            "sampled_ids": np.zeros(shape, np.int64),
            "log_probabilities": np.zeros(shape, np.float32),
            "next_token_ids": state["token_ids"],
        }
        for output in self.sessions[steps].get_outputs()[3:]:
            kind, layer, _ = output.name.split(".")
            results[output.name] = state[f"{kind.replace('present', 'past')}.{layer}"]
        counts = {"positions": asked["positions"], "past_lengths": state["past_lengths"]}
        inputs = {**state, **asked, "tokens_read": np.array(1)}
        return run(self.sessions[steps], inputs, results, counts, tokens)


def run(
    decoder: onnxruntime.InferenceSession,
    inputs: Mapping[str, NDArray[Any]],
    results: Mapping[str, NDArray[Any]],
    counts: Mapping[str, NDArray[Any]],
    tokens: int,
) -> list[NDArray[Any]]:
    binding, value = decoder.io_binding(), onnxruntime.OrtValue.ortvalue_from_numpy
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, value(array))
    for name, array in results.items():
        binding.bind_ortvalue_output(name, value(array))
    steps, found = results["sampled_ids"].shape[1], []
    for _ in range(tokens // steps):
        decoder.run_with_iobinding(binding)
        found.append([results["sampled_ids"].copy(), results["log_probabilities"].copy()])
        for name in {"positions", "past_lengths"} & set(counts):
            counts[name][:] += steps
    return [np.concatenate(parts, 1) for parts in zip(*found, strict=True)]


def assert_same_texts(decoder: Windows | Caches, state: Arrays, asked: Arrays, alone: int) -> None:
    """For K = 1, 4, 8 with the rows shuffled, and for the first `alone` rows by themselves."""
    rows, rng = len(asked["seeds"]), np.random.default_rng(9)
    expected = decoder.text(state, asked, 16, 8)
    for steps in K:
        order = rng.permutation(rows)
        found = decoder.text(picked(state, order), picked(asked, order), 16, steps)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs[order])
    for row in range(alone):
        only, steps = np.array([row]), K[row % len(K)]
        ids, _ = decoder.text(picked(state, only), picked(asked, only), 16, steps)
        np.testing.assert_array_equal(ids[0], expected[0][row])


def windows(net: FrozenNet, rows: int, seed: int) -> Arrays:
    shape, rng = net.topology.input, np.random.default_rng(seed)
    assert isinstance(shape, TextInput)
    ids_BW = rng.integers(0, shape.vocab_size, (rows, shape.window))
    missing = rng.integers(0, shape.window, rows)
    ids_BW[np.arange(shape.window) < missing[:, None]] = NO_TOKEN
    return {"token_ids": ids_BW}


def prompts(config: Gpt2Config, rows: int, longest: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, config.vocab_size, rng.integers(1, longest + 1)) for _ in range(rows)]


# ---------------------------------------------------------------------- texts


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_texts_of_any_network_are_the_same_in_any_batch(seed: int) -> None:
    net = random_net(seed, text=True)
    asked = parameters(np.random.default_rng(seed), 32)
    assert_same_texts(Windows(net), windows(net, 32, seed), asked, alone=6)


def test_texts_of_a_gpt2_are_the_same_in_any_batch() -> None:
    net = random_gpt2(1, Gpt2Config(50, context=32, width=32, heads=4, layers=2))
    decoder = Caches(net)
    state = decoder.fill(prompts(net.config, 32, longest=16))
    assert_same_texts(decoder, state, parameters(np.random.default_rng(1), 32), alone=6)


def test_texts_of_the_shipped_luminanet_are_the_same_in_any_batch() -> None:
    net = load(PRETRAINED / "luminanet-tinystories" / "ckpt.pt").net
    assert isinstance(net, FrozenNet)
    asked = parameters(np.random.default_rng(2), 32)
    assert_same_texts(Windows(net), windows(net, 32, 5), asked, alone=6)


def test_texts_of_the_shipped_gpt2_are_the_same_in_any_batch() -> None:
    net = load(PRETRAINED / "gpt2-tinystories" / "ckpt.pt").net
    assert isinstance(net, Gpt2Net)
    decoder = Caches(net)
    state = decoder.fill(prompts(net.config, 32, longest=200))
    assert_same_texts(decoder, state, parameters(np.random.default_rng(3), 32), alone=6)


def test_every_token_is_the_oracles_choice_from_the_networks_logits() -> None:
    net = random_weights(tiny_text_topology(300))
    window_BW = windows(net, 12, 1)["token_ids"]
    asked = parameters(np.random.default_rng(4), 12)
    ids, logs = Windows(net).text({"token_ids": window_BW}, asked, 8, 4)
    network = session(unroll(net))
    for step in range(8):
        (logits,) = network.run(["logits"], {"token_ids": window_BW})
        for row in range(12):
            mine = {name: asked[name][row].item() for name in INPUTS if name in asked}
            mine["seed"] = mine.pop("seeds")
            mine.pop("positions")
            token = choose(logits[row], window_BW[row].tolist(), Sampling(**mine), step)
            assert ids[row, step] == token.id
            assert logs[row, step] == pytest.approx(token.log_probability, abs=1e-4)
        window_BW = np.concatenate([window_BW[:, 1:], ids[:, step : step + 1]], axis=1)


def test_every_token_of_a_gpt2_is_the_oracles_choice() -> None:
    net = random_gpt2(2, Gpt2Config(50, context=24, width=32, heads=4))
    decoder = Caches(net)
    texts = prompts(net.config, 6, longest=12)
    asked = parameters(np.random.default_rng(5), 6)
    ids, _ = decoder.text(decoder.fill(texts), asked, 8, 4)
    empty = decoder.fill([np.zeros(1, np.int64)])
    for row, start in enumerate(texts):
        for step in range(8):
            text = np.concatenate([start, ids[row, :step]])
            feeds = {name: array for name, array in empty.items() if name.startswith("past_k")}
            feeds |= {name: array for name, array in empty.items() if name.startswith("past_v")}
            feeds |= {"token_ids": text[None], "past_lengths": np.zeros(1, np.int32)}
            (logits,) = decoder.prompt.run(["logits"], feeds)
            mine = {name: asked[name][row].item() for name in INPUTS}
            mine["seed"] = mine.pop("seeds")
            mine.pop("positions")
            assert ids[row, step] == choose(logits[0], text.tolist(), Sampling(**mine), step).id


# ---------------------------------------------------------------------- ends and errors


def test_the_window_after_a_call_holds_the_tokens_drawn() -> None:
    net = random_weights(tiny_text_topology(300))
    state, asked = windows(net, 3, 2), parameters(np.random.default_rng(6), 3)
    feeds = {**state, **asked, "steps": np.array(5)}
    outputs = ["sampled_ids", "next_token_ids"]
    ids, after = Windows(net).session.run(outputs, feeds)
    np.testing.assert_array_equal(after, np.hstack([state["token_ids"][:, 5:], ids]))


def test_a_full_cache_is_not_overrun_and_its_neighbours_are_as_ever() -> None:
    net = random_gpt2(1, Gpt2Config(50, context=16, width=32, heads=4))
    decoder, rng = Caches(net), np.random.default_rng(7)
    texts = [rng.integers(0, 50, length) for length in (15, 3)]
    state, asked = decoder.fill(texts), parameters(rng, 2)
    ids, _ = decoder.text(state, asked, 8, 8)
    for row, valid in ((0, 2), (1, 8)):
        only = np.array([row])
        alone, _ = decoder.text(picked(state, only), picked(asked, only), valid, 1)
        np.testing.assert_array_equal(alone[0], ids[row, :valid])


def test_a_network_that_is_broken_names_no_token() -> None:
    net = random_weights(tiny_text_topology(300))
    net.clusters[0].bias_H[:] = np.nan
    ids, logs = Windows(net).text(windows(net, 2, 1), parameters(np.random.default_rng(8), 2), 4, 4)
    assert (ids == NO_TOKEN).all()
    assert np.isnan(logs).all()


def test_a_step_may_use_the_operators_of_microsoft() -> None:
    step = unroll(random_weights(tiny_text_topology(300)))
    for node in step.graph.node:
        if node.op_type == "Gelu":
            node.domain = MICROSOFT
    step.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    session(decode_windows(step))


@pytest.mark.parametrize("form", list(Form))
def test_graphs_of_every_form_are_valid_and_the_same_every_time(form: Form) -> None:
    net = random_weights(tiny_text_topology(300))
    first, second = (decode_windows(unroll(net, form)) for _ in range(2))
    onnx.checker.check_model(first)
    assert first.SerializeToString() == second.SerializeToString()
    session(first)


def test_the_graph_of_a_gpt2_is_valid_and_the_same_every_time() -> None:
    first, second = (decode_caches(unroll_gpt2(random_gpt2(1)), 4) for _ in range(2))
    onnx.checker.check_model(first)
    assert first.SerializeToString() == second.SerializeToString()


def test_graphs_of_another_kind_are_refused() -> None:
    with pytest.raises(ExportError, match="give a text network"):
        decode_windows(unroll(random_net(1, text=False)))
    with pytest.raises(ExportError, match="give a text network"):
        decode_windows(unroll_gpt2(random_gpt2(1)))
    with pytest.raises(ExportError, match="give a GPT-2"):
        decode_caches(unroll(random_net(1, text=True)), 4)
    with pytest.raises(ExportError, match="one at least"):
        decode_caches(unroll_gpt2(random_gpt2(1)), 0)
