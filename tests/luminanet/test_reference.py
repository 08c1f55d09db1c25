import math
from dataclasses import replace

import numpy as np
import pytest

from luminanet.fields import ImageInput, Interval, Patch, Recall, TextInput
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.reference import (
    NO_TOKEN,
    average_pool,
    field_indices,
    forward,
    gelu,
    layer_norm,
    pool,
    recall,
)
from luminanet.topology import Activation, Cluster, Connection, Topology
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


def test_a_pooled_patch_reads_means_of_squares() -> None:
    image = np.arange(32.0).reshape(1, 2, 4, 4)
    assert average_pool(image, 2)[0, 1].tolist() == [[18.5, 20.5], [26.5, 28.5]]
    assert average_pool(image, 4)[0].tolist() == [[[7.5]], [[23.5]]]
    cluster = Cluster(0, 0, 1, (Patch((1,), 1, 0, 1, 2, pool=2), Patch((1, 0), 0, 0, 1, 1, pool=4)))
    # 32 pixels of the image, then two channels of 2x2 means, then one mean of each channel
    found = field_indices(cluster, ImageInput(2, 4, 4), (1, 2, 4))
    assert found.tolist() == [32 + 6, 32 + 7, 40 + 1, 40]


def test_a_network_on_means_is_one_on_pixels_with_weights_that_are_shared_out() -> None:
    pooled = random_weights(_one_cluster(Patch((0, 2), 1, 0, 2, 3, pool=2)))
    plain = random_weights(_one_cluster(Patch((0, 2), 2, 0, 4, 6)))
    weights = pooled.clusters[0]
    see_CYXH = weights.see_IH.reshape(2, 2, 3, -1).repeat(2, 1).repeat(2, 2) / 4
    spread = replace(weights, see_IH=see_CYXH.reshape(48, -1).astype(np.float32))
    same = FrozenNet(plain.topology, {0: spread}, {}, pooled.head)
    images = np.random.default_rng(0).random((3, 3, 8, 6))
    assert np.allclose(forward(same, images), forward(pooled, images), atol=1e-6)


def _one_cluster(patch: Patch) -> Topology:
    clusters = (Cluster(0, 0, 5, (patch,)),)
    return Topology(ImageInput(3, 8, 6), 2, 4, Activation.TANH, clusters)


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


@pytest.mark.parametrize(
    ("window", "order", "nth", "expected"),
    [
        ([7, 5, 9, 5], 1, 1, 9),
        ([5, 1, 5, 2, 5], 1, 1, 2),  # the last time, not the first
        ([5, 5], 1, 1, 5),
        ([3, 4, 8, 4, 9, 3, 4], 2, 1, 8),  # 4 alone came later
        ([4, 8, 3, 4], 2, 1, NO_TOKEN),  # a pair that began before the window is not there
        ([1, 2, 3], 1, 1, NO_TOKEN),
        ([NO_TOKEN, NO_TOKEN, 6], 1, 1, NO_TOKEN),
        ([NO_TOKEN, 6, NO_TOKEN, 6], 2, 1, NO_TOKEN),  # nothing is like nothing
        ([5, 1, 5, 2, 5], 1, 2, 1),  # the time before the last
        ([5, 1, 5, 2, 5], 1, 3, NO_TOKEN),
        ([5, 5, 5], 1, 2, 5),
        ([3, 4, 8, 3, 4, 9, 3, 4], 2, 2, 8),
        ([4, 8, 3, 4, 9, 3, 4], 2, 2, NO_TOKEN),
    ],
)
def test_what_followed_when_the_newest_tokens_were_there_before(
    window: list[int], order: int, nth: int, expected: int
) -> None:
    assert recall(np.array([window]), order, nth).tolist() == [expected]


def test_an_echo_adds_what_it_sees_as_loud_as_the_gates_say() -> None:
    """By hand, on a network whose clusters read out gates alone."""
    shape = TextInput(6, 4, 8, tied=False, echoes=(Interval(1, 5), Recall(1)))
    clusters = (Cluster(0, 0, 3, (Interval(0, 1),)), Cluster(1, 0, 3, (Interval(0, 2),)))
    net = random_weights(Topology(shape, 2, 5, Activation.TANH, clusters))
    for weights in net.clusters.values():
        weights.readout_HO[:, :5] = 0
    head = net.head
    assert isinstance(head, TextHead)
    assert head.salience_VF is not None
    window = np.array([0, 1, 2, 3, 4, 5, 2, 3])
    gates_F = sum(
        np.tanh(pool(embedded(net, window)[None, ::-1], c.intervals[0])[0] @ w.see_IH + w.bias_H)
        @ w.readout_HO[:, 5:]
        for c, w in ((c, net.clusters[c.id]) for c in clusters)
    )
    loud_VF = np.log(1 + np.exp(10 * head.salience_VF.astype(float)) * (math.e - 1))
    table_VO = head.vocabulary_VO.astype(float)
    interval_O = sum(loud_VF[v, 0] * table_VO[v] for v in window[3:7]) / 2
    recalled_O = loud_VF[4, 1] * table_VO[4]  # 3 was there before, and 4 followed
    out_O = np.asarray(gates_F)[0] * interval_O + np.asarray(gates_F)[1] * recalled_O
    normed = (out_O - out_O.mean()) / np.sqrt(out_O.var() + 1e-5)
    normed = normed * head.norm_out_scale_O + head.norm_out_bias_O
    assert forward(net, window[None])[0] == pytest.approx(normed @ table_VO.T, abs=1e-9)


def test_a_habit_is_a_row_for_the_newest_two_tokens() -> None:
    plain = tiny_text_topology(50)
    assert isinstance(plain.input, TextInput)
    with_habits = replace(plain, input=replace(plain.input, habits=11))
    net = random_weights(with_habits)
    assert isinstance(net.head, TextHead)
    assert net.head.habit_PE is not None
    window = np.array([[NO_TOKEN] * 14 + [3, 9], [NO_TOKEN] * 15 + [9]])
    rows = [(7919 * before + 1_000_003 * 9) % 11 for before in (3, NO_TOKEN)]
    for row in range(11):
        changed = net.head.habit_PE.copy()
        changed[row] += 1
        other = replace(net, head=replace(net.head, habit_PE=changed))
        is_same = np.isclose(forward(other, window), forward(net, window)).all(1)
        assert is_same.tolist() == [row != rows[0], row != rows[1]]


def embedded(net: FrozenNet, tokens: np.ndarray) -> np.ndarray:
    assert isinstance(net.head, TextHead)
    head = net.head
    table_VE = layer_norm(head.embed_VE, head.norm_in_scale_E, head.norm_in_bias_E)
    return np.asarray(table_VE[tokens])


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
