from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.gpt2.cached import unroll_gpt2
from export.graph.count import macs
from luminanet.gpt2 import Gpt2Config, Gpt2Net, forward
from tests.nets import random_gpt2


class Decoder:
    """Runs the graph as serving does: the cache is bound once and updated in place."""

    def __init__(self, net: Gpt2Net, rows: int) -> None:
        config = net.config
        self.session = onnxruntime.InferenceSession(
            unroll_gpt2(net).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        shape = (rows, config.heads, config.context, config.width // config.heads)
        names = [f"{kind}.{n}" for kind in ("keys", "values") for n in range(config.layers)]
        self.cache = {name: np.zeros(shape, np.float32) for name in names}

    def step(self, rows: slice, token_ids: list[list[int]], past: list[int]) -> NDArray[Any]:
        """Logits [B, V] after the last token of each row."""
        binding, value = self.session.io_binding(), onnxruntime.OrtValue.ortvalue_from_numpy
        kept = [value(np.array(token_ids)), value(np.array(past, np.int32))]
        binding.bind_ortvalue_input("token_ids", kept[0])
        binding.bind_ortvalue_input("past_lengths", kept[1])
        binding.bind_output("logits")
        for name, array in self.cache.items():
            kept.append(value(array[rows]))
            binding.bind_ortvalue_input(f"past_{name}", kept[-1])
            binding.bind_ortvalue_output(f"present_{name}", kept[-1])
        self.session.run_with_iobinding(binding)
        return np.asarray(binding.copy_outputs_to_cpu()[0])


def close(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    return bool(np.abs(found - expected).max() < 1e-5)


@pytest.fixture(scope="module", params=[1, 3])
def net(request: pytest.FixtureRequest) -> Gpt2Net:
    return random_gpt2(1, Gpt2Config(50, context=16, width=32, heads=4, layers=request.param))


def test_rows_of_different_lengths_decode_in_place_to_the_end_of_the_cache(net: Gpt2Net) -> None:
    rng = np.random.default_rng(0)
    texts = rng.integers(0, net.config.vocab_size, (2, net.config.context))
    expected = forward(net, texts)
    lengths = [11, 3]
    decoder = Decoder(net, rows=2)
    for row, length in enumerate(lengths):
        found = decoder.step(slice(row, row + 1), [texts[row, :length].tolist()], [0])
        assert close(found[0], expected[row, length - 1])
    for step in range(net.config.context - max(lengths)):
        past = [length + step for length in lengths]
        newest = [[int(texts[row, at])] for row, at in enumerate(past)]
        found = decoder.step(slice(0, 2), newest, past)
        assert close(found, np.stack([expected[row, at] for row, at in enumerate(past)]))


def test_a_prompt_can_come_in_pieces(net: Gpt2Net) -> None:
    text = np.random.default_rng(1).integers(0, net.config.vocab_size, (1, 9))
    decoder = Decoder(net, rows=1)
    for start, stop in ((0, 4), (4, 7), (7, 9)):
        found = decoder.step(slice(0, 1), [text[0, start:stop].tolist()], [start])
        assert close(found, forward(net, text[:, :stop])[:, -1])


def test_prompts_of_one_length_decode_together(net: Gpt2Net) -> None:
    texts = np.random.default_rng(2).integers(0, net.config.vocab_size, (3, 5))
    found = Decoder(net, rows=3).step(slice(0, 3), texts.tolist(), [0, 0, 0])
    assert close(found, forward(net, texts)[:, -1])


def test_a_row_that_begins_joins_rows_that_go_on(net: Gpt2Net) -> None:
    texts = np.random.default_rng(3).integers(0, net.config.vocab_size, (2, 6))
    decoder = Decoder(net, rows=2)
    decoder.step(slice(0, 1), [texts[0, :5].tolist()], [0])
    found = decoder.step(slice(0, 2), [[int(texts[0, 5])], [int(texts[1, 0])]], [5, 0])
    assert close(found[0], forward(net, texts[:1])[0, 5])
    assert close(found[1], forward(net, texts[1:])[0, 0])


def test_the_number_of_steps_can_be_fixed(net: Gpt2Net) -> None:
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("steps", 1)
    onnxruntime.InferenceSession(
        unroll_gpt2(net).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def test_the_graph_is_valid_and_the_same_every_time(net: Gpt2Net) -> None:
    model = unroll_gpt2(net)
    onnx.checker.check_model(model)
    assert model.SerializeToString() == unroll_gpt2(net).SerializeToString()
    assert model.graph.output[0].name == "logits"


def test_the_cost_is_that_of_all_matrices_of_one_token(net: Gpt2Net) -> None:
    e, v = net.config.width, net.config.vocab_size
    assert macs(unroll_gpt2(net)) == net.config.layers * 12 * e * e + e * v
