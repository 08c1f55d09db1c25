import math
from dataclasses import replace

import numpy as np
import pytest

from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead
from luminanet.reference import NO_TOKEN, field_indices, forward, gelu, pool
from luminanet.topology import (
    Activation,
    Cluster,
    Connection,
    ImageInput,
    Interval,
    Patch,
    Topology,
)
from tests.nets import random_weights, tiny_image_topology, tiny_text_topology


def scalar_net(connections: tuple[Connection, ...], gates: dict[Connection, float]) -> FrozenNet:
    """Two clusters of one tanh neuron on one pixel, all weights 1, on levels 0 and 1."""
    one = np.ones((1, 1), np.float32)
    weights = ClusterWeights(one, np.zeros(1, np.float32), one, one, one)
    pixel = (Patch((0,), 0, 0, 1, 1),)
    topology = Topology(
        ImageInput(1, 1, 1),
        channel=1,
        outputs=1,
        activation=Activation.TANH,
        clusters=(Cluster(0, 0, 1, pixel), Cluster(1, 1, 1, pixel)),
        connections=connections,
    )
    flat = ImageHead(np.zeros(1, np.float32), np.ones(1, np.float32), np.zeros(1, np.float32))
    return FrozenNet(topology, {0: weights, 1: weights}, gates, flat)


def test_two_passes_by_hand() -> None:
    forth, back, self_loop = Connection(1, 0), Connection(0, 1), Connection(1, 1)
    net = scalar_net((forth, back, self_loop), {forth: 1.0, back: 0.5, self_loop: 2.0})
    x, tanh = 0.3, math.tanh
    first_0 = tanh(x)  # pass 1: nothing fed forward to cluster 0
    first_1 = tanh(x + first_0 / 2)  # two connections come in, so n = 2 in both passes
    second_0 = tanh(x + 0.5 * first_1)  # feedback carries the message of pass 1
    second_1 = tanh(x + (second_0 + 2.0 * first_1) / 2)  # feedforward that of pass 2
    out = forward(net, np.full((1, 1, 1, 1), x))
    assert out.item() == pytest.approx(second_0 + second_1, abs=1e-12)


def test_without_connections_the_clusters_only_add_up() -> None:
    out = forward(scalar_net((), {}), np.full((1, 1, 1, 1), 0.3))
    assert out.item() == pytest.approx(2 * math.tanh(0.3), abs=1e-12)


def test_a_patch_reads_its_pixels_channel_by_channel() -> None:
    cluster = Cluster(0, 0, 1, (Patch((2, 0), 1, 1, 1, 2),))
    assert field_indices(cluster, ImageInput(3, 2, 3)).tolist() == [16, 17, 4, 5]


def test_an_interval_is_the_sum_over_the_root_of_its_length() -> None:
    by_lag = np.arange(8.0).reshape(1, 4, 2)
    assert pool(by_lag, Interval(0, 1)).tolist() == [[0.0, 1.0]]
    assert pool(by_lag, Interval(0, 4)).tolist() == [[12 / 2, 16 / 2]]


def test_positions_before_the_text_count_as_nothing() -> None:
    net = random_weights(tiny_text_topology(300))
    tokens = np.full((1, 16), NO_TOKEN)
    tokens[0, -2:] = [5, 7]
    moved = tokens.copy()
    moved[0, 0] = 9
    assert not np.allclose(forward(net, tokens), forward(net, moved))
    assert np.isfinite(forward(net, tokens)).all()


def test_images_are_normalised_per_channel() -> None:
    net = random_weights(tiny_image_topology())
    assert isinstance(net.head, ImageHead)
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    plain = replace(net, head=replace(net.head, mean_C=zero, std_C=one))
    images = np.random.default_rng(0).random((2, 3, 32, 32))
    by_hand = (images - net.head.mean_C[:, None, None]) / net.head.std_C[:, None, None]
    assert np.allclose(forward(net, images), forward(plain, by_hand), atol=1e-12)


def test_gelu_is_the_exact_form() -> None:
    assert gelu(np.array([1.0])).item() == pytest.approx(0.8413447460685429, abs=1e-12)
