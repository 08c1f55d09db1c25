import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminanet.errors import TopologyError
from luminanet.fields import ImageInput, Interval, Patch, Recall, TextField, TextInput
from luminanet.topology import Activation, Cluster, Connection, Kind, Topology
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
        (
            (replace(A, fields=(Patch((0,), 0, 0, 9, 8, pool=4),)),),
            (),
            "outside 3x8x8 pixels of 4x4",
        ),
        ((replace(A, fields=(Patch((0,), 9, 0, 8, 8, pool=2),)),), (), "outside 3x16x16 pixels"),
        ((replace(A, fields=(Patch((0,), 0, 0, 1, 1, pool=3),)),), (), "divide both"),
        ((replace(A, fields=(Patch((0,), 0, 0, 1, 1, pool=0),)),), (), "1 or more"),
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


def test_an_image_of_other_sides_is_pooled_only_where_both_can_be_divided() -> None:
    cluster = Cluster(0, 0, 4, (Patch((0,), 0, 0, 1, 1, pool=2),))
    assert Topology(ImageInput(1, 4, 6), 4, 10, Activation.GELU, (cluster,)).scales == (2,)
    with pytest.raises(TopologyError, match="4x5 pixels"):
        Topology(ImageInput(1, 4, 5), 4, 10, Activation.GELU, (cluster,))


def test_only_what_is_pooled_says_so_in_a_file() -> None:
    patches = (Patch((0, 1, 2), 0, 0, 8, 8), Patch((0, 1, 2), 0, 0, 8, 8, pool=4))
    clusters = tuple(Cluster(i, 0, 4, (patch,)) for i, patch in enumerate(patches))
    topology = Topology(IMAGE, 4, 10, Activation.GELU, clusters)
    plain, pooled = (json.loads(topology.to_json())["clusters"][i]["fields"] for i in (0, 1))
    assert plain == [{"channels": [0, 1, 2], "top": 0, "left": 0, "height": 8, "width": 8}]
    assert pooled == [{**plain[0], "pool": 4}]
    assert Topology.from_json(topology.to_json()) == topology
    assert topology.scales == (1, 4)
    assert "some see 4x4 means" in topology.summary()
    assert "means" not in tiny_image_topology().summary()


def test_a_pooled_patch_has_a_frame_in_the_image_and_a_kernel_anywhere() -> None:
    patch = Patch((2, 0), 1, 3, 4, 5, pool=2)
    assert patch.frame == (2, 6, 8, 10)
    assert patch.size == 2 * 4 * 5
    assert patch.kernel == Patch((1, 0), 2, 0, 4, 5, pool=2).kernel
    assert patch.kernel != Patch((2, 0), 1, 3, 4, 5).kernel


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
