from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminanet.errors import TopologyError
from luminanet.fields import ImageInput, Interval, Patch, Recall, TextField, TextInput
from luminanet.topology import Cluster, Connection, Kind, Topology
from tests.nets import random_net, random_topology, tiny_image_topology, tiny_text_topology

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.booleans())
def test_a_topology_survives_json(seed: int, text: bool) -> None:
    topology = random_topology(seed, text)
    assert Topology.from_json(topology.to_json()) == topology
    assert Topology.from_json(topology.to_json()).to_json() == topology.to_json()


@given(SEEDS, st.booleans())
def test_parameters_are_the_numbers_that_the_weights_hold(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    arrays = [
        *(w.see_IH.size + w.bias_H.size + w.hear_DH.size for w in net.clusters.values()),
        *(w.send_HD.size + w.readout_HO.size for w in net.clusters.values()),
    ]
    names = [n for n in type(net.head).__slots__ if n not in ("mean_C", "std_C")]
    parts = [getattr(net.head, name) for name in names]
    head = sum(part.size for part in parts if part is not None)
    assert net.topology.parameters == sum(arrays) + head + len(net.gates)


def test_a_connection_is_feedforward_feedback_or_recurrent_by_its_levels() -> None:
    topology = tiny_image_topology()
    assert topology.kind(Connection(source=0, target=4)) is Kind.FEEDFORWARD
    assert topology.kind(Connection(source=4, target=0)) is Kind.FEEDBACK
    assert topology.kind(Connection(source=0, target=1)) is Kind.FEEDBACK
    assert topology.kind(Connection(source=4, target=4)) is Kind.RECURRENT
    assert [topology.count(kind) for kind in Kind] == [4, 1, 1]
    assert topology.depth == 2


def test_the_order_in_which_clusters_are_given_does_not_matter() -> None:
    topology = tiny_image_topology()
    turned = replace(
        topology,
        clusters=topology.clusters[::-1],
        connections=topology.connections[::-1],
    )
    assert turned == topology


IMAGE = ImageInput(3, 32, 32)
A = Cluster(0, 0, 4, (Patch((0, 1, 2), 0, 0, 8, 8),))


@pytest.mark.parametrize(
    ("clusters", "connections", "says"),
    [
        ((), (), "at least one cluster"),
        ((A, A), (), "same id"),
        ((replace(A, width=0),), (), "width 0"),
        ((replace(A, level=-1),), (), "negative"),
        ((replace(A, fields=(Patch((3,), 0, 0, 8, 8),)),), (), "outside"),
        ((replace(A, fields=(Patch((), 0, 0, 8, 8),)),), (), "outside"),
        ((replace(A, fields=(Patch((0,), 30, 0, 8, 8),)),), (), "outside"),
        ((replace(A, fields=(Interval(0, 1),)),), (), "patches"),
        ((replace(A, fields=2 * A.fields),), (), "a field twice"),
        ((A,), (Connection(0, 1),), "not there"),
        ((A,), (Connection(0, 0), Connection(0, 0)), "twice"),
    ],
)
def test_a_topology_that_makes_no_sense_is_refused(
    clusters: tuple[Cluster, ...], connections: tuple[Connection, ...], says: str
) -> None:
    with pytest.raises(TopologyError, match=says):
        Topology(IMAGE, 4, 10, tiny_image_topology().activation, clusters, connections)


def test_text_clusters_look_only_inside_the_window() -> None:
    topology = tiny_text_topology(300)
    outside = Cluster(9, 0, 4, (Interval(0, 17),))
    with pytest.raises(TopologyError, match="window of 16"):
        topology.having([*topology.clusters, outside], topology.connections)


@pytest.mark.parametrize(
    "field", [Recall(0), Recall(16), Recall(1, 0), Interval(3, 3), Interval(0, 17)]
)
def test_what_is_not_in_the_window_is_neither_seen_nor_echoed(field: TextField) -> None:
    topology = tiny_text_topology(50)
    assert isinstance(topology.input, TextInput)
    with pytest.raises(TopologyError, match="echo"):
        replace(topology, input=replace(topology.input, echoes=(field,)))
    with pytest.raises(TopologyError, match="cluster 0"):
        topology.having([Cluster(0, 0, 4, (field,))], ())


def test_echoes_are_in_order_and_each_is_there_once() -> None:
    topology = tiny_text_topology(50)
    assert isinstance(topology.input, TextInput)
    echoes = (Recall(2), Interval(0, 8), Recall(1), Interval(0, 4))
    found = replace(topology.input, echoes=echoes)
    assert found.echoes == (Interval(0, 4), Interval(0, 8), Recall(1), Recall(2))
    assert (found.echo_reach, found.echoed) == (8, 10)
    with pytest.raises(TopologyError, match="twice"):
        replace(topology, input=replace(topology.input, echoes=2 * echoes[:1]))


def test_the_output_layer_of_text_is_tied_to_the_embedding() -> None:
    with pytest.raises(TopologyError, match="tied"):
        replace(tiny_text_topology(300), input=TextInput(300, embedding=8, window=16))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "nonsense", "null"])
def test_what_is_not_a_topology_is_refused(text: str) -> None:
    with pytest.raises(TopologyError):
        Topology.from_json(text)


def test_a_topology_of_another_format_says_how_to_go_on() -> None:
    text = tiny_image_topology().to_json().replace('"format": 1', '"format": 7')
    with pytest.raises(TopologyError, match=r"format 7.*freeze"):
        Topology.from_json(text)
