import json

import pytest

from luminanet.errors import TopologyError
from luminanet.topology import Connection
from tests.nets import tiny_image_topology, tiny_text_topology
from training.evolution.operators.base import Operator, recorded
from training.evolution.operators.clusters import Grow, Remove, Shrink, Split
from training.evolution.operators.connections import Connect, Disconnect

TEXT = tiny_text_topology(300)  # 0 and 1 on level 0, 2 on level 1; 1 hears itself


def test_a_twin_on_the_same_level_hears_and_is_heard_like_its_parent() -> None:
    after = Split(1, 0).apply(TEXT)
    assert after.cluster(3) == type(after.cluster(3))(3, 0, 16, after.cluster(1).fields)
    assert after.sources == {0: (2,), 1: (1, 3), 2: (0, 1, 3), 3: (1, 3)}


def test_a_twin_on_a_deeper_level_hears_like_its_parent_and_speaks_to_nobody() -> None:
    after = Split(0, 1).apply(TEXT)
    assert after.cluster(3).level == 1
    assert after.sources == {0: (2,), 1: (1,), 2: (0, 1), 3: (2,)}


def test_a_twin_of_a_recurrent_cluster_hears_its_parent_from_a_deeper_level() -> None:
    assert Split(1, 1).apply(TEXT).sources[3] == (1,)


def test_a_cluster_cannot_be_split_towards_a_lower_level() -> None:
    with pytest.raises(TopologyError, match="lower"):
        Split(2, 0).apply(TEXT)


def test_growing_and_shrinking_change_the_width() -> None:
    assert Grow(0, 3).apply(TEXT).cluster(0).width == 19
    assert Shrink(0, (0, 5)).apply(TEXT).cluster(0).width == 14


def test_connecting_and_disconnecting_are_inverse() -> None:
    connected = Connect(source=0, target=1).apply(TEXT)
    assert Connection(source=0, target=1) in connected.connections
    assert Disconnect(source=0, target=1).apply(connected) == TEXT


def test_a_removed_cluster_takes_its_connections_along() -> None:
    after = Remove(2).apply(TEXT)
    assert [c.id for c in after.clusters] == [0, 1]
    assert after.connections == (Connection(1, 1),)


@pytest.mark.parametrize(
    "mutation",
    [
        Split(9, 0),
        Grow(0, 0),
        Grow(9, 1),
        Shrink(0, ()),
        Shrink(0, (99,)),
        Shrink(0, (1, 1)),
        Shrink(0, tuple(range(8))),
        Connect(0, 4),
        Connect(0, 9),
        Disconnect(0, 1),
        Remove(9),
    ],
)
def test_a_mutation_that_cannot_be_done_is_refused(mutation: Operator) -> None:
    with pytest.raises(TopologyError):
        mutation.apply(tiny_image_topology())


def test_the_last_cluster_cannot_be_removed() -> None:
    one = Remove(1).apply(Remove(2).apply(TEXT))
    with pytest.raises(TopologyError, match="at least one"):
        Remove(0).apply(one)


@pytest.mark.parametrize(
    "mutation",
    [Split(1, 2), Grow(0, 3), Shrink(0, (2, 5)), Connect(0, 1), Disconnect(0, 1), Remove(4)],
)
def test_a_mutation_survives_being_written_down(mutation: Operator) -> None:
    assert recorded(json.loads(json.dumps(mutation.record()))) == mutation


@pytest.mark.parametrize("raw", [{}, {"operator": "melt"}, {"operator": "grow", "cluster": 1}])
def test_what_is_no_mutation_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(TopologyError, match="not a mutation"):
        recorded(raw)
