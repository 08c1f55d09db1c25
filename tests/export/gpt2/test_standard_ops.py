import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.checks.verify import verify
from export.gpt2.cached import unroll_gpt2
from export.gpt2.standard_ops import unroll_plain_gpt2
from export.graph.count import macs
from luminanet.gpt2 import Gpt2Config, Gpt2Net, forward
from tests.nets import random_gpt2

NET = random_gpt2(0)


def names(values: list[onnx.ValueInfoProto]) -> list[str]:
    return [str(value).replace("\n", " ") for value in values]


def test_the_interface_is_that_of_the_fast_form() -> None:
    plain, fast = unroll_plain_gpt2(NET), unroll_gpt2(NET)
    assert names(list(plain.graph.input)) == names(list(fast.graph.input))
    assert names(list(plain.graph.output)) == names(list(fast.graph.output))


def test_all_operators_are_standard() -> None:
    model = unroll_plain_gpt2(NET)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert model.SerializeToString() == unroll_plain_gpt2(NET).SerializeToString()


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([(8, 1), (12, 3), (16, 4)]), st.integers(1, 3))
def test_any_gpt2_agrees_with_the_reference(seed: int, shape: tuple[int, int], layers: int) -> None:
    width, heads = shape
    net = random_gpt2(seed, Gpt2Config(30, context=9, width=width, heads=heads, layers=layers))
    assert verify(unroll_plain_gpt2(net), net, seed).difference < 1e-5


@pytest.mark.parametrize("lengths", [(4, 4), (1, 7), (9, 2)])
def test_rows_of_different_lengths_take_several_steps_at_once(lengths: tuple[int, int]) -> None:
    """What onnxruntime's own attention does not offer: new steps after pasts of any length."""
    found, expected = continued(NET, lengths, steps=3)
    assert np.abs(found - expected).max() < 1e-5


def continued(
    net: Gpt2Net, lengths: tuple[int, ...], steps: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Logits after `steps` more tokens of each row, from the graph and from the reference."""
    session = onnxruntime.InferenceSession(
        unroll_plain_gpt2(net).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng, config = np.random.default_rng(0), net.config
    texts = [rng.integers(0, config.vocab_size, length + steps) for length in lengths]
    shape = (len(lengths), config.heads, config.context, config.width // config.heads)
    cache = {i.name: np.zeros(shape, np.float32) for i in session.get_inputs()[2:]}
    for row, length in enumerate(lengths):
        own = {name: array[row : row + 1] for name, array in cache.items()}
        prompt = {"token_ids": texts[row][None, :length], "past_lengths": np.zeros(1, np.int32)}
        for name, array in zip(own, session.run(None, prompt | own)[1:], strict=True):
            cache[name][row] = array[0]
    newest = np.stack([text[-steps:] for text in texts])
    feeds = {"token_ids": newest, "past_lengths": np.array(lengths, np.int32), **cache}
    expected = np.stack([forward(net, text[None])[0, -1] for text in texts])
    return np.asarray(session.run(["logits"], feeds)[0], np.float32), expected


def test_the_cost_leaves_out_what_depends_on_the_cache() -> None:
    assert macs(unroll_plain_gpt2(NET)) == macs(unroll_gpt2(NET))
