from dataclasses import replace
from functools import partial

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet, TextHead
from luminanet.reference import NO_TOKEN, forward
from tests.nets import random_net
from training.model.network import Network, NetworkOptions, pack, unpack

SEEDS = st.integers(0, 100_000)


def difference(got: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(got.detach().numpy() - expected).max() / max(1.0, np.abs(expected).max()))


def gradient(model: Network) -> torch.Tensor:
    found = model.get_parameter("gates").grad
    assert found is not None
    return found


@given(SEEDS)
def test_torch_and_the_reference_give_the_same_logits_for_images(seed: int) -> None:
    net = random_net(seed, text=False)
    images = np.random.default_rng(seed).random((3, 3, 8, 6), np.float32)
    assert difference(Network(net)(torch.from_numpy(images)), forward(net, images)) <= 1e-4


@given(SEEDS)
def test_one_sequence_trains_the_window_of_every_position(seed: int) -> None:
    net = random_net(seed, text=True)
    shape = net.topology.input
    assert isinstance(shape, TextInput)
    kinds = 3 if seed % 2 else shape.vocab_size  # few, so that what was there comes again
    tokens = np.random.default_rng(seed).integers(0, kinds, (2, 20))
    logits_BTV = Network(net)(torch.from_numpy(tokens))
    padded = np.pad(tokens, ((0, 0), (shape.window, 0)), constant_values=NO_TOKEN)
    for t in (0, 3, 19):
        window = padded[:, t + 1 : t + 1 + shape.window]
        assert difference(logits_BTV[:, t], forward(net, window)) <= 1e-4


@given(SEEDS, st.integers(1, 20))
def test_the_newest_token_alone_gets_the_logits_that_it_gets_among_all(
    seed: int, length: int
) -> None:
    net = random_net(seed, text=True)
    shape = net.topology.input
    assert isinstance(shape, TextInput)
    kinds = 3 if seed % 2 else shape.vocab_size
    size = (2, min(length, shape.window))
    tokens = np.random.default_rng(seed).integers(0, kinds, size)
    found = Network(net)(torch.from_numpy(tokens), newest=True)
    before = ((0, 0), (shape.window - tokens.shape[1], 0))
    window = np.pad(tokens, before, constant_values=NO_TOKEN)
    assert difference(found[:, 0], forward(net, window)) <= 1e-4


@given(SEEDS, st.booleans())
def test_packing_and_unpacking_lose_nothing(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    again = unpack(net, pack(net))
    assert again.topology == net.topology
    assert all(np.float32(again.gates[c]) == np.float32(net.gates[c]) for c in net.gates)
    for key, weights in net.clusters.items():
        for name in type(weights).__slots__:
            assert np.array_equal(getattr(again.clusters[key], name), getattr(weights, name))


@given(SEEDS)
def test_a_choir_shares_the_gates_of_its_first_cluster(seed: int) -> None:
    net = random_net(seed, text=True)
    model = Network(net, NetworkOptions(shared_gates=True))
    assume(net.gates)
    frozen, choirs = model.freeze(), net.topology.choirs
    for link, gate in frozen.gates.items():
        assert gate == np.float32(net.gates[replace(link, target=choirs[link.target])])
    tokens = np.random.default_rng(seed).integers(0, 40, (2, 12))
    logits_BTV = model(torch.from_numpy(tokens))
    assert difference(logits_BTV[:, -1], forward(frozen, tokens)) <= 1e-4
    plain = Network(frozen)
    for some in (model, plain):
        some(torch.from_numpy(tokens)).square().mean().backward()
    own, shared = (
        unpack(net, pack(net) | {"gates": gradient(some)}).gates for some in (plain, model)
    )
    for link, slope in shared.items():
        choir = [c for c in own if c.source == link.source and choirs[c.target] == link.target]
        assert np.isclose(slope, sum(own[c] for c in choir), rtol=1e-3, atol=1e-4)


def test_tokens_that_drop_their_habits_do_without_them() -> None:
    net = next(n for n in map(partial(random_net, text=True), range(99)) if knows_by_heart(n))
    assert isinstance(net.head, TextHead)
    assert net.head.habit_PE is not None
    forgetful = replace(net, head=replace(net.head, habit_PE=np.zeros_like(net.head.habit_PE)))
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 40, (2, 20)))
    model = Network(net, NetworkOptions(habit_dropout=1.0))
    assert torch.allclose(model(tokens), Network(forgetful)(tokens), atol=1e-5)
    assert torch.allclose(model.eval()(tokens), Network(net)(tokens), atol=1e-5)
    assert not torch.allclose(model(tokens), Network(forgetful)(tokens), atol=1e-2)


def knows_by_heart(net: FrozenNet) -> bool:
    return isinstance(net.head, TextHead) and net.head.habit_PE is not None


@given(SEEDS)
def test_the_probe_measures_what_a_connection_is_worth(seed: int) -> None:
    net = random_net(seed, text=False)
    model = Network(net)
    images = torch.from_numpy(np.random.default_rng(seed).random((3, 3, 8, 6), np.float32))
    n = len(net.clusters)
    probe = torch.zeros(n, n, requires_grad=True)
    model(images, probe).square().sum().backward()
    assert torch.allclose(model(images, torch.zeros(n, n)), model(images), atol=1e-5)
    assert probe.grad is not None
    expected = probe.grad * model.mask_NN * model.share_N1
    assert torch.allclose(gradient(model), expected, rtol=1e-4, atol=1e-4)
