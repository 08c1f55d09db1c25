import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from luminanet.fields import ImageInput
from luminanet.frozen import FrozenNet
from luminanet.reference import forward
from luminanet.topology import Connection
from tests.nets import random_net
from training.evolution.operators.base import Operator, Role
from training.evolution.operators.clusters import Grow, Remove, Shrink, Split
from training.evolution.operators.connections import Connect, Disconnect
from training.evolution.transplant import Slots, mutate, transplant

SEEDS = st.integers(0, 100_000)
TOLERANCE = 1e-5
"""Weights are float32: what is divided and added again is off by rounding."""


def inputs(net: FrozenNet) -> NDArray[np.generic]:
    rng = np.random.default_rng(1)
    shape = net.topology.input
    if isinstance(shape, ImageInput):
        return rng.random((4, shape.channels, shape.height, shape.width))
    return rng.integers(-1, shape.vocab_size, (4, shape.window))


def change(net: FrozenNet, mutation: Operator, seed: int = 0) -> float:
    """Largest difference of the logits, relative to the largest logit (at least 1)."""
    before = forward(net, inputs(net))
    after = forward(transplant(net, mutation, seed), inputs(net))
    return float(np.abs(after - before).max() / max(1.0, np.abs(before).max()))


@given(SEEDS, st.booleans(), st.integers(1, 5))
def test_growing_a_cluster_keeps_every_logit(seed: int, text: bool, neurons: int) -> None:
    net = random_net(seed, text)
    target = list(net.clusters)[seed % len(net.clusters)]
    assert change(net, Grow(target, neurons), seed) <= TOLERANCE


@given(SEEDS, st.booleans())
def test_splitting_a_cluster_keeps_every_logit(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    target = net.topology.clusters[seed % len(net.clusters)]
    assert change(net, Split(target.id, target.level), seed) <= TOLERANCE


@given(SEEDS, st.booleans(), st.integers(1, 3))
def test_splitting_towards_a_deeper_level_keeps_every_logit(
    seed: int, text: bool, deeper: int
) -> None:
    net = random_net(seed, text)
    target = net.topology.clusters[seed % len(net.clusters)]
    assert change(net, Split(target.id, target.level + deeper), seed) <= TOLERANCE


@given(SEEDS, st.booleans())
def test_a_new_connection_keeps_every_logit(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    ids = list(net.clusters)
    source, target = ids[seed % len(ids)], ids[seed // 7 % len(ids)]
    assume(Connection(source=source, target=target) not in net.gates)
    assert change(net, Connect(source, target)) <= TOLERANCE


@given(SEEDS, st.booleans())
def test_removing_what_says_nothing_keeps_every_logit(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    target = list(net.clusters)[seed % len(net.clusters)]
    grown = transplant(net, Grow(target, 2), seed)
    width = grown.topology.cluster(target).width
    assert change(grown, Shrink(target, (width - 2, width - 1))) <= TOLERANCE


@given(SEEDS, st.booleans())
def test_pruning_an_unused_connection_keeps_every_logit(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    ids = list(net.clusters)
    source, target = ids[seed % len(ids)], ids[seed // 7 % len(ids)]
    assume(Connection(source=source, target=target) not in net.gates)
    connected = transplant(net, Connect(source, target))
    assert change(connected, Disconnect(source, target)) <= TOLERANCE


def test_losing_neurons_or_clusters_does_change_the_logits() -> None:
    net = random_net(7, text=False)
    target = net.topology.clusters[0]
    assert len(net.clusters) > 1
    assert change(net, Remove(target.id)) > TOLERANCE
    wide = next(c for c in net.topology.clusters if c.width > 1)
    assert change(net, Shrink(wide.id, (0,))) > TOLERANCE


def test_the_two_halves_of_a_split_are_not_the_same() -> None:
    net = random_net(7, text=False)
    target = net.topology.clusters[0]
    after = transplant(net, Split(target.id, target.level), seed=3)
    twin = max(after.clusters)
    assert not np.allclose(after.clusters[target.id].readout_HO, after.clusters[twin].readout_HO)
    assert np.array_equal(after.clusters[target.id].see_IH, after.clusters[twin].see_IH)


def test_grown_neurons_start_without_momentum_and_with_the_mean_second_moment() -> None:
    net = random_net(7, text=False)
    target = net.topology.clusters[0].id
    width = net.topology.cluster(target).width
    first = transplant(net, Grow(target, 2), role=Role.FIRST_MOMENT).clusters[target]
    second = transplant(net, Grow(target, 2), role=Role.SECOND_MOMENT).clusters[target]
    assert not first.hear_DH[:, width:].any()
    expected = net.clusters[target].hear_DH.mean()
    assert second.hear_DH[:, width:] == pytest.approx(expected)


@given(SEEDS)
def test_all_slots_get_the_same_topology_and_the_same_new_weights(seed: int) -> None:
    net = random_net(seed, text=False)
    target = net.topology.clusters[0]
    for mutation in (Grow(target.id, 2), Split(target.id, target.level)):
        after = mutate(Slots(net, net, net, net), mutation, seed)
        containers = (after.weights, after.average, after.first_moment, after.second_moment)
        assert len({n.topology.to_json() for n in containers}) == 1
        x = inputs(net)
        assert np.array_equal(forward(after.weights, x), forward(after.average, x))
