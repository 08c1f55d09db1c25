from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.graph.count import macs
from export.network.unroll import unroll
from luminanet.fields import ImageInput, Interval, Patch, TextInput
from luminanet.frozen import FrozenNet
from luminanet.reference import NO_TOKEN, forward
from luminanet.topology import Activation, Cluster, Connection, Topology
from tests.nets import random_net, random_weights, tiny_image_topology, tiny_text_topology

BATCHES = st.integers(1, 4)
SEEDS = st.integers(0, 100_000)


def inputs_of(net: FrozenNet, batch: int, seed: int = 0) -> NDArray[Any]:
    """Random images, or windows of which row 0 may begin before the text, some of so few tokens
    that what was there before comes again."""
    rng, shape = np.random.default_rng(seed), net.topology.input
    if isinstance(shape, TextInput):
        ids_BW = rng.integers(0, 3 if seed % 2 else shape.vocab_size, (batch, shape.window))
        ids_BW[0, : rng.integers(0, shape.window + 1)] = NO_TOKEN
        return ids_BW
    return rng.random((batch, shape.channels, shape.height, shape.width), dtype=np.float32)


def run(model: onnx.ModelProto, inputs: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: inputs})
    return np.asarray(logits, np.float32)


def assert_same_as_reference(net: FrozenNet, inputs: NDArray[Any]) -> None:
    expected = forward(net, inputs)
    difference = np.abs(run(unroll(net), inputs) - expected).max()
    assert difference <= 1e-5 * max(1, np.abs(expected).max())


@given(SEEDS, BATCHES)
def test_the_graph_of_any_image_network_agrees_with_the_reference(seed: int, batch: int) -> None:
    net = random_net(seed, text=False)
    assert_same_as_reference(net, inputs_of(net, batch, seed))


@given(SEEDS, BATCHES)
def test_the_graph_of_any_text_network_agrees_with_the_reference(seed: int, batch: int) -> None:
    net = random_net(seed, text=True)
    assert_same_as_reference(net, inputs_of(net, batch, seed))


@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("topology", [tiny_image_topology(), tiny_text_topology(300)])
def test_every_activation_agrees_with_the_reference(
    topology: Topology, activation: Activation
) -> None:
    net = random_weights(replace(topology, activation=activation))
    assert_same_as_reference(net, inputs_of(net, batch=3))


def test_an_empty_window_agrees_with_the_reference() -> None:
    net = random_net(1, text=True)
    assert isinstance(net.topology.input, TextInput)
    assert_same_as_reference(net, np.full((2, net.topology.input.window), NO_TOKEN))


def test_a_patch_keeps_the_order_of_its_channels() -> None:
    seen = ((2, 0), (0, 2), (2, 1, 0), (1,))
    patches = tuple(Patch(channels, 0, 1, 2, 2) for channels in seen)
    clusters = (Cluster(0, 0, 4, patches),)
    net = random_weights(Topology(ImageInput(3, 3, 3), 1, 2, Activation.TANH, clusters))
    assert_same_as_reference(net, inputs_of(net, batch=2))


def test_images_may_have_many_channels() -> None:
    patches = (Patch((1, 2), 0, 0, 1, 1), Patch((12,), 0, 0, 1, 1))
    clusters = (Cluster(0, 0, 4, patches),)
    net = random_weights(Topology(ImageInput(13, 1, 1), 1, 2, Activation.TANH, clusters))
    assert_same_as_reference(net, inputs_of(net, batch=2))


def test_clusters_that_neither_see_nor_hear_speak_by_their_bias() -> None:
    links = (Connection(source=0, target=1), Connection(source=1, target=0))
    clusters = (Cluster(0, 0, 3), Cluster(1, 1, 2), Cluster(2, 1, 4))
    topology = Topology(ImageInput(1, 2, 2), 2, 3, Activation.GELU, clusters, links)
    net = random_weights(topology)
    assert_same_as_reference(net, inputs_of(net, batch=3))


@given(SEEDS, st.booleans())
def test_graphs_are_valid_and_hold_no_dead_work(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    assume(any(cluster.fields for cluster in net.topology.clusters))
    model = unroll(net)
    onnx.checker.check_model(model, full_check=True)
    used = {name for node in model.graph.node for name in node.input} | {"logits"}
    assert all(used.intersection(node.output) for node in model.graph.node)
    assert {tensor.name for tensor in model.graph.initializer} <= used


def test_a_network_gives_the_same_bytes_every_time() -> None:
    first, second = (
        unroll(random_weights(tiny_text_topology(300))).SerializeToString() for _ in range(2)
    )
    assert first == second


def test_nodes_are_named_after_cluster_and_pass() -> None:
    names = {node.name for node in unroll(random_weights(tiny_image_topology())).graph.node}
    assert {"cluster0/see", "cluster4/pass1/hear", "cluster4/pass2/hear"} <= names
    assert "cluster1/pass2/hear" not in names  # it hears nobody, so pass 1 was enough
    assert len(names) == len(unroll(random_weights(tiny_image_topology())).graph.node)


def test_the_cost_of_a_network_can_be_counted_by_hand() -> None:
    clusters = (
        Cluster(0, 0, 5, (Interval(0, 1), Interval(0, 4))),
        Cluster(1, 1, 7),
    )
    links = (Connection(source=0, target=1), Connection(source=1, target=1))
    shape = TextInput(vocab_size=20, embedding=6, window=4)
    net = random_weights(Topology(shape, 3, 6, Activation.RELU, clusters, links))
    pooling, see, output_layer = 1 * 4 * 6, 12 * 5, 6 * 20
    send, hear = 5 * 3 + 7 * 3, 2 * (3 * 7)
    gates = 1 * 1 * 3 + 1 * 2 * 3
    readout = (5 + 7) * 6
    assert macs(unroll(net)) == pooling + see + send + gates + hear + readout + output_layer
