from dataclasses import replace

import numpy as np
import pytest

from luminanet.errors import TopologyError
from luminanet.gpt2 import Gpt2Config, Gpt2Net, forward, gelu_tanh
from luminanet.reference import layer_norm
from tests.nets import random_gpt2


def test_later_tokens_do_not_change_earlier_predictions() -> None:
    net = random_gpt2(0)
    tokens = np.random.default_rng(0).integers(0, net.config.vocab_size, (2, 9))
    assert np.allclose(forward(net, tokens)[:, :5], forward(net, tokens[:, :5]), atol=1e-12)


def test_every_earlier_token_matters() -> None:
    net = random_gpt2(1)
    tokens = np.arange(6)[None]
    last = forward(net, tokens)[0, -1]
    for position in range(6):
        changed = tokens.copy()
        changed[0, position] = 30
        assert not np.allclose(forward(net, changed)[0, -1], last)


def test_a_past_is_what_stood_before() -> None:
    """One layer, whose keys and values are those of the embedded tokens."""
    net = random_gpt2(2, Gpt2Config(30, context=9, width=16, heads=2))
    tokens = np.random.default_rng(0).integers(0, 30, (3, 9))
    w = {name: array.astype(np.float64) for name, array in net.tensors.items()}
    embedded = w["wte.weight"][tokens] + w["wpe.weight"]
    normed = layer_norm(embedded, w["h.0.ln_1.weight"], w["h.0.ln_1.bias"])
    both = normed @ w["h.0.attn.c_attn.weight"][:, 16:] + w["h.0.attn.c_attn.bias"][16:]
    keys, values = (part.reshape(3, 9, 2, 8).swapaxes(1, 2) for part in np.split(both, 2, -1))
    whole = forward(net, tokens)
    for past in (1, 5, 8):
        before = (keys[:, :, :past], values[:, :, :past])
        assert np.allclose(forward(net, tokens[:, past:], [before]), whole[:, past:], atol=1e-12)


def test_gelu_is_the_form_of_gpt2() -> None:
    assert gelu_tanh(np.array([1.0])).item() == pytest.approx(0.8411919906082768, abs=1e-12)


def test_tensors_that_do_not_fit_are_refused() -> None:
    net = random_gpt2(0)
    with pytest.raises(TopologyError, match="wpe"):
        Gpt2Net(replace(net.config, context=3), net.tensors)
    with pytest.raises(TopologyError, match="differ"):
        Gpt2Net(replace(net.config, layers=3), net.tensors)
    with pytest.raises(TopologyError, match="multiple"):
        Gpt2Config(vocab_size=10, context=4, width=10, heads=3)
    with pytest.raises(TopologyError, match="'mish' is none of gelu_tanh, gelu, relu, silu, tanh"):
        replace(net.config, activation="mish")
    for epsilon in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(TopologyError, match="norm_epsilon"):
            replace(net.config, norm_epsilon=epsilon)
    with pytest.raises(TopologyError, match="0 wide"):
        replace(net.config, inner=0)
    with pytest.raises(TopologyError, match="lm_head"):
        Gpt2Net(replace(net.config, tied=False), net.tensors)


def test_an_output_layer_of_its_own_gives_other_logits_and_the_same_features() -> None:
    """Logits are linear in it: with twice the embedding there they are twice as large."""
    net, tokens = random_gpt2(0), np.arange(5)[None]
    twice = {**net.tensors, "lm_head.weight": 2 * net.tensors["wte.weight"]}
    own = Gpt2Net(replace(net.config, tied=False), twice)
    assert np.allclose(forward(own, tokens), 2 * forward(net, tokens), atol=1e-12)
    assert own.parameters == net.parameters + net.tensors["wte.weight"].size


def test_what_is_usual_is_not_told() -> None:
    assert random_gpt2(0).summary() == (
        "GPT-2 style Transformer, 2 layer(s), width 32, 4 heads, context 16, 0.03 M parameters"
    )
