from hypothesis import given
from hypothesis import strategies as st

from luminanet.fields import ImageInput
from luminanet.schedule import Visit, schedule, stages
from luminanet.topology import Activation, Cluster, Connection, Topology
from tests.nets import random_topology


def chain(*links: tuple[int, int], clusters: int = 3) -> Topology:
    """Cluster i on level i; links are (source, target)."""
    return Topology(
        ImageInput(1, 1, 1),
        channel=1,
        outputs=1,
        activation=Activation.RELU,
        clusters=tuple(Cluster(i, i, 1) for i in range(clusters)),
        connections=tuple(Connection(source=s, target=t) for s, t in links),
    )


def test_a_feedforward_network_is_visited_once() -> None:
    assert schedule(chain((0, 1), (1, 2), (0, 2))) == {
        Visit(0, 1): (),
        Visit(1, 1): (Visit(0, 1),),
        Visit(2, 1): (Visit(0, 1), Visit(1, 1)),
    }


def test_feedback_visits_again_whom_it_changes() -> None:
    assert schedule(chain((0, 1), (1, 0), clusters=2)) == {
        Visit(0, 1): (),
        Visit(1, 1): (Visit(0, 1),),
        Visit(0, 2): (Visit(1, 1),),
        Visit(1, 2): (Visit(0, 2),),
    }


def test_a_recurrent_cluster_hears_its_first_message() -> None:
    assert schedule(chain((1, 1), clusters=2)) == {
        Visit(0, 1): (),
        Visit(1, 1): (),
        Visit(1, 2): (Visit(1, 1),),
    }


def test_first_visits_that_nobody_needs_are_left_out() -> None:
    visits = schedule(chain((1, 0), (0, 2)))
    assert visits == {Visit(1, 1): (), Visit(0, 2): (Visit(1, 1),), Visit(2, 2): (Visit(0, 2),)}


@given(st.integers(0, 10_000))
def test_every_visit_is_read_out_or_heard(seed: int) -> None:
    topology = random_topology(seed, text=seed % 2 == 0)
    visits = schedule(topology)
    last = {visit.cluster: visit for visit in visits}
    heard = {source for sources in visits.values() for source in sources}
    assert set(last) == set(topology.by_id)
    assert set(visits) == set(last.values()) | heard


@given(st.integers(0, 10_000))
def test_a_stage_hears_only_earlier_stages(seed: int) -> None:
    topology = random_topology(seed, text=True)
    earlier: set[Visit] = set()
    for stage in stages(topology).values():
        assert {source for sources in stage.values() for source in sources} <= earlier
        earlier |= set(stage)
    assert earlier == set(schedule(topology))
