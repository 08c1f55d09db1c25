"""The predicted latency: what it counts is what the exporter builds, and it knows what is dear."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.graph.count import work_of
from export.network.lowerings import Form
from export.network.unroll import unroll
from luminanet.cost.graph_work import FORMS, work
from luminanet.cost.latency import latency_us, predict_us
from luminanet.cost.model import (
    FORMS_MODEL,
    LATENCY_MODEL,
    Coefficients,
    Work,
    read,
    shipped,
    write,
)
from luminanet.errors import ArtifactError, TopologyError
from luminanet.fields import Interval, Recall, TextField, TextInput
from luminanet.frozen import FrozenNet
from luminanet.topology import Activation, Cluster, Connection, Topology
from tests.nets import random_net, random_weights, tiny_image_topology, tiny_text_topology

SEEDS = st.integers(0, 100_000)


def text(levels: list[int], links: list[tuple[int, int]], width: int = 64) -> Topology:
    """Clusters on these levels, each sees the last token and a lag of its own."""
    base = tiny_text_topology(500)
    clusters = tuple(
        Cluster(k, level, width, (Interval(0, 1), Interval(k + 1, k + 2)))
        for k, level in enumerate(levels)
    )
    return base.having(clusters, [Connection(source=s, target=t) for s, t in links])


def evenly_gated(topology: Topology) -> FrozenNet:
    return replace(random_weights(topology), gates=dict.fromkeys(topology.connections, 1.0))


@settings(max_examples=60)
@given(SEEDS)
def test_the_work_is_nearly_what_the_exported_graph_does(seed: int) -> None:
    topology = replace(random_net(seed, text=True).topology, activation=Activation.GELU)
    net = evenly_gated(topology)
    for form in FORMS:
        graph, counted = work_of(unroll(net, Form(form))), work(net.topology)[form]
        assert counted.nodes == pytest.approx(graph.nodes, rel=0.35, abs=4)
        multiplied = counted.macs + counted.batched + counted.pooled
        assert multiplied == pytest.approx(graph.macs + graph.batched, rel=0.2)


ECHOES = {
    "none": ((), (), 0),
    "recalls are seen": ((Recall(1),), (), 0),
    "two are": ((Recall(1), Recall(3)), (), 0),
    "the third last is": ((Recall(1, nth=3),), (), 0),
    "the last two are, in two ways": ((Recall(1), Recall(1, 2), Recall(2), Recall(2, 2)), (), 0),
    "an interval is echoed": ((), (Interval(0, 8),), 0),
    "habits": ((), (), 5),
    "all": ((Recall(1), Recall(2)), (Interval(0, 8), Recall(1), Recall(2)), 5),
}


@pytest.mark.parametrize(("seen", "echoes", "habits"), ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_work_of_levels_on_a_bus_is_exact(
    seen: tuple[Recall, ...], echoes: tuple[TextField, ...], habits: int, tied: bool
) -> None:
    links = [(s, t) for s in range(6) for t in range(6) if (s < 3) != (t < 3)]
    plain = text([0, 0, 0, 1, 1, 1], links)
    assert isinstance(plain.input, TextInput)
    clusters = [replace(c, fields=(*c.text_fields, *seen)) for c in plain.clusters]
    source = replace(plain.input, echoes=echoes, habits=habits, tied=tied)
    net = evenly_gated(replace(plain, input=source, clusters=tuple(clusters)))
    for form in FORMS:
        graph, counted = work_of(unroll(net, Form(form))), work(net.topology)[form]
        assert (counted.nodes, counted.steps) == (graph.nodes, graph.steps)
        assert counted.macs + counted.pooled == graph.macs
        assert counted.batched == graph.batched


@given(SEEDS, st.integers(1, 64))
def test_wider_clusters_and_more_of_them_are_never_cheaper(seed: int, neurons: int) -> None:
    topology = random_net(seed, text=True).topology
    chosen = topology.clusters[seed % len(topology.clusters)]
    wider = [replace(c, width=c.width + neurons * (c == chosen)) for c in topology.clusters]
    more = [*topology.clusters, replace(chosen, id=99)]
    for clusters in (wider, more):
        after = predict_us(topology.having(clusters, topology.connections))
        for batch, us in predict_us(topology).items():
            assert after[batch] >= us


def test_a_bus_costs_less_than_as_many_scattered_connections() -> None:
    levels = [0] * 4 + [1] * 4
    bus = text(levels, [(s, t) for s in range(4) for t in range(4, 8)])
    rng, places = np.random.default_rng(0), [(s, t) for s in range(8) for t in range(8)]
    for _ in range(10):
        some = rng.permutation(len(places))[:16].tolist()
        scattered = text(levels, [places[k] for k in some])
        assert latency_us(bus) < latency_us(scattered)


def test_a_connection_costs_little_where_the_bus_is_there_already() -> None:
    levels, bus = [0] * 4 + [1] * 4, [(s, t) for s in range(3) for t in range(4, 8)]
    plain, one = text(levels, []), text(levels, [(0, 4)])
    joined, more = text(levels, bus), text(levels, [*bus, (3, 4)])
    assert latency_us(more) - latency_us(joined) < latency_us(one) - latency_us(plain)


def test_an_interval_that_a_level_sees_already_costs_less_than_a_new_one() -> None:
    topology = text([0, 0], [])

    def seeing(interval: Interval) -> Topology:
        first, second = topology.clusters
        first = replace(first, fields=(*first.fields, interval))
        return topology.having([first, second], [])

    shared, single, pooled = map(seeing, (Interval(2, 3), Interval(5, 6), Interval(4, 8)))
    assert latency_us(topology) <= latency_us(shared) < latency_us(single) < latency_us(pooled)


def test_clusters_that_see_the_same_share_a_product() -> None:
    topology = text([0, 0], [])
    first, second = topology.clusters
    alike = topology.having([first, replace(second, fields=first.fields)], [])
    apart, together = work(topology)["shared"], work(alike)["shared"]
    assert together.nodes < apart.nodes
    assert latency_us(alike) < latency_us(topology)


def test_both_batch_sizes_count_alike() -> None:
    topology = tiny_text_topology(300)
    times = predict_us(topology)
    assert set(times) == {1, 32}
    assert latency_us(topology) == pytest.approx((times[1] * times[32]) ** 0.5)


def test_work_adds_up() -> None:
    some, more = Work(10, 4, 2000, 1000), Work(nodes=1, lookups=3, weights=5)
    assert some + more == Work(11, 4, 2000, 1000, lookups=3, weights=5)
    assert Coefficients(100, 50, 20, 30, 0, 0, 0).us(some) == pytest.approx(1.27)


def test_the_coefficients_are_what_counts_are_multiplied_with() -> None:
    done = work(tiny_text_topology(300))["bus"]
    ones = Coefficients(*[0.0] * len(done.counts))
    for name, count in zip(Coefficients.__slots__, done.counts, strict=True):
        assert replace(ones, **{name: 2000.0}).us(done) == pytest.approx(2 * count)


@pytest.mark.parametrize("path", [LATENCY_MODEL, FORMS_MODEL])
def test_a_model_survives_being_written_down(path: Path) -> None:
    assert write(shipped(path)) == path.read_text("utf-8")


def test_every_step_takes_some_time() -> None:
    assert all(us > 0 for us in predict_us(tiny_text_topology(300)).values())


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "batches": {"1": {}}}'])
def test_what_is_no_cost_model_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        read(text)


def test_images_have_no_predicted_latency() -> None:
    with pytest.raises(TopologyError, match="text"):
        latency_us(tiny_image_topology())
