"""Receptive fields change without changing the function, whatever the topology."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luminanet.errors import TopologyError
from luminanet.fields import Interval, Recall, TextField, TextInput
from luminanet.frozen import FrozenNet
from luminanet.reference import forward
from luminanet.topology import Cluster
from tests.nets import random_net, random_weights, tiny_image_topology, tiny_text_topology
from training.evolution.field_candidates import candidates, direction
from training.evolution.operators.base import Role
from training.evolution.operators.connections import ConnectLevels
from training.evolution.operators.fields import AddField, DropField, SplitField, middles, widens
from training.evolution.transplant import Slots, mutate, transplant

SEEDS = st.integers(0, 100_000)
TOLERANCE = 1e-5
TEXT = tiny_text_topology(300)


def cluster_of(net: FrozenNet, seed: int) -> Cluster:
    return net.topology.clusters[seed % len(net.clusters)]


def field_of(net: FrozenNet, seed: int) -> TextField:
    return Recall(1 + seed % 3) if seed % 4 == 0 else interval(net, seed)


def interval(net: FrozenNet, seed: int) -> Interval:
    assert isinstance(net.topology.input, TextInput)
    start, stop = np.sort(
        np.random.default_rng(seed).choice(net.topology.input.window + 1, 2, replace=False)
    )
    return Interval(int(start), int(stop))


def windows(net: FrozenNet) -> np.ndarray:
    assert isinstance(net.topology.input, TextInput)
    vocab_size, window = net.topology.input.vocab_size, net.topology.input.window
    return np.random.default_rng(1).integers(-1, vocab_size, (4, window))


def change(net: FrozenNet, *mutations: AddField | SplitField | DropField | ConnectLevels) -> float:
    """Largest difference of the logits, relative to the largest logit (at least 1)."""
    before = after = net
    for mutation in mutations:
        after = transplant(after, mutation)
    logits = forward(before, windows(net))
    return float(
        np.abs(forward(after, windows(net)) - logits).max() / max(1.0, np.abs(logits).max())
    )


@given(SEEDS)
def test_seeing_more_keeps_every_logit(seed: int) -> None:
    net = random_net(seed, text=True)
    cluster, new = cluster_of(net, seed), field_of(net, seed)
    assume(new not in cluster.fields)
    see = AddField(cluster.id, new)
    assert change(net, see) <= TOLERANCE
    assert change(net, see, DropField(see.cluster, see.field)) <= TOLERANCE


@given(SEEDS, st.integers(1, 11))
def test_refining_an_interval_keeps_every_logit(seed: int, offset: int) -> None:
    net = random_net(seed, text=True)
    cluster = cluster_of(net, seed)
    wide = [i for i in cluster.intervals if i.stop - i.start > 1]
    assume(wide)
    whole = wide[seed % len(wide)]
    middle = whole.start + 1 + offset % (whole.stop - whole.start - 1)
    assert change(net, SplitField(cluster.id, whole.start, middle, whole.stop)) <= TOLERANCE


@given(SEEDS, st.integers(1, 11))
def test_a_part_that_is_seen_already_takes_up_the_weights_of_the_whole(
    seed: int, offset: int
) -> None:
    net = random_net(seed, text=True)
    cluster = cluster_of(net, seed)
    wide = [i for i in cluster.intervals if i.stop - i.start > 1]
    assume(wide)
    whole = wide[seed % len(wide)]
    middle = whole.start + 1 + offset % (whole.stop - whole.start - 1)
    part = Interval(whole.start, middle)
    assume(not {part, Interval(middle, whole.stop)} & set(cluster.intervals))
    see = AddField(cluster.id, part)
    refine = SplitField(cluster.id, whole.start, middle, whole.stop)
    after = refine.apply(see.apply(net.topology))
    assert len(after.cluster(cluster.id).fields) == len(cluster.fields) + 1
    assert change(net, see, refine) <= TOLERANCE


@given(SEEDS, st.integers(0, 3), st.integers(0, 3))
def test_connecting_levels_keeps_every_logit(seed: int, source: int, target: int) -> None:
    net = random_net(seed, text=True)
    levels = sorted({c.level for c in net.topology.clusters})
    link = ConnectLevels(levels[source % len(levels)], levels[target % len(levels)])
    missing = [
        c
        for c in net.topology.clusters
        if c.level == link.target
        and any(
            s.level == link.source and s.id not in net.topology.sources[c.id]
            for s in net.topology.clusters
        )
    ]
    assume(missing)
    assert change(net, link) <= TOLERANCE
    after = link.apply(net.topology)
    for c in after.clusters:
        if c.level == link.target:
            assert {s.id for s in after.clusters if s.level == link.source} <= set(
                after.sources[c.id]
            )


def test_refining_moves_the_rows_by_the_share_of_each_part() -> None:
    """Cluster 1 sees [0, 1) and [2, 16): 14 lags, cut after 2."""
    net = random_weights(TEXT)
    old = net.clusters[1].see_IH.reshape(2, 16, -1)
    new = transplant(net, SplitField(1, 2, 4, 16)).clusters[1].see_IH.reshape(3, 16, -1)
    assert np.array_equal(new[0], old[0])
    assert new[1] == pytest.approx(old[1] * np.sqrt(2 / 14), rel=1e-6)
    assert new[2] == pytest.approx(old[1] * np.sqrt(12 / 14), rel=1e-6)


def test_moments_follow_the_rows() -> None:
    net = random_weights(TEXT)
    squared = replace(
        net, clusters={i: replace(w, see_IH=w.see_IH**2) for i, w in net.clusters.items()}
    )
    see, refine = AddField(1, Interval(1, 2)), SplitField(1, 2, 4, 16)
    first = transplant(net, see, role=Role.FIRST_MOMENT).clusters[1].see_IH.reshape(3, 16, -1)
    assert not first[1].any()
    second = transplant(squared, see, role=Role.SECOND_MOMENT).clusters[1].see_IH
    old = squared.clusters[1].see_IH
    assert second.reshape(3, 16, -1)[1] == pytest.approx(np.tile(old.mean(0), (16, 1)))
    parts = transplant(squared, refine, role=Role.SECOND_MOMENT).clusters[1].see_IH
    for part in parts.reshape(3, 16, -1)[1:]:
        assert np.array_equal(part, old.reshape(2, 16, -1)[1])
    after = mutate(Slots(net, net, net, squared), refine, 0)
    assert after.topology == refine.apply(TEXT)
    assert np.array_equal(after.weights.clusters[1].see_IH, after.average.clusters[1].see_IH)


def test_fields_stay_sorted_so_that_clusters_that_see_the_same_share_a_product() -> None:
    one = AddField(0, Interval(2, 4)).apply(AddField(0, Interval(5, 6)).apply(TEXT))
    two = AddField(0, Interval(5, 6)).apply(AddField(0, Interval(2, 4)).apply(TEXT))
    assert one == two
    assert one.cluster(0).intervals == tuple(sorted(one.cluster(0).intervals))


@pytest.mark.parametrize(
    "mutation",
    [
        AddField(0, Interval(0, 1)),
        AddField(0, Interval(3, 3)),
        AddField(0, Interval(0, 17)),
        AddField(9, Interval(3, 4)),
        SplitField(0, 0, 1, 1),
        SplitField(1, 2, 2, 16),
        SplitField(1, 2, 16, 16),
        SplitField(1, 2, 4, 15),
        DropField(0, Interval(3, 4)),
        ConnectLevels(0, 5),
    ],
)
def test_a_change_that_cannot_be_done_is_refused(
    mutation: AddField | SplitField | DropField | ConnectLevels,
) -> None:
    with pytest.raises(TopologyError):
        mutation.apply(TEXT)


def test_levels_that_are_connected_already_are_refused() -> None:
    with pytest.raises(TopologyError, match="hears all"):
        ConnectLevels(0, 1).apply(TEXT)
    assert len(ConnectLevels(0, 0).made(TEXT)) == 3  # all but the recurrent connection of 1


def test_pixels_do_not_change() -> None:
    with pytest.raises(TopologyError, match="only the fields of text"):
        AddField(0, Interval(0, 1)).apply(tiny_image_topology())
    assert candidates(tiny_image_topology()) == []


def test_overlooking_does_change_the_logits() -> None:
    net = random_weights(TEXT)
    assert change(net, DropField(1, Interval(0, 1))) > TOLERANCE


# ---------------------------------------------------------------------- candidates


@settings(max_examples=25)
@given(SEEDS)
def test_every_candidate_can_be_done_and_adds_what_was_not_seen(seed: int) -> None:
    net = random_net(seed, text=True)
    found = candidates(net.topology)
    assert len(set(found)) == len(found)
    for mutation in found:
        after = mutation.apply(net.topology).cluster(mutation.cluster)
        before = net.topology.cluster(mutation.cluster)
        is_recall = isinstance(mutation, AddField) and isinstance(mutation.field, Recall)
        assert is_recall or widens(before.intervals, after.intervals)
        assert set(before.text_fields) < set(after.text_fields) or isinstance(mutation, SplitField)


def pooled(interval: TextField, window: int = 12) -> np.ndarray:
    """What an interval takes of each lag."""
    assert isinstance(interval, Interval)
    lags = np.zeros(window)
    lags[interval.start : interval.stop] = 1 / np.sqrt(interval.stop - interval.start)
    return lags


@settings(max_examples=25)
@given(SEEDS)
def test_the_direction_of_a_change_is_new_and_of_length_one(seed: int) -> None:
    net = random_net(seed, text=True)
    for mutation in candidates(net.topology):
        seen = net.topology.cluster(mutation.cluster).intervals
        after = mutation.apply(net.topology).cluster(mutation.cluster).text_fields
        mix = direction(mutation, seen)
        assert set(mix) <= set(after)
        assert {field for _, field in mutation.brings()} & set(mix)
        if isinstance(mutation, AddField) and isinstance(mutation.field, Recall):
            assert mix == {mutation.field: 1.0}
            continue
        lags = np.sum([part * pooled(interval) for interval, part in mix.items()], 0)
        assert np.linalg.norm(lags) == pytest.approx(1)
        for interval in seen:
            assert lags @ pooled(interval) == pytest.approx(0, abs=1e-6)


def test_the_direction_of_a_refinement_is_what_the_sum_does_not_tell() -> None:
    """Two parts of equal length: their difference."""
    mix = direction(SplitField(0, 4, 6, 8), [Interval(0, 1), Interval(4, 8)])
    assert mix == pytest.approx({Interval(4, 6): 0.5**0.5, Interval(6, 8): -(0.5**0.5)})
    assert direction(AddField(0, Interval(3, 4)), [Interval(0, 1)]) == {Interval(3, 4): 1.0}


def test_what_can_be_told_already_is_no_candidate() -> None:
    seen = (Interval(0, 1), Interval(0, 4))
    assert not widens(seen, [Interval(1, 4)])
    assert widens(seen, [Interval(1, 3)])
    cluster = Cluster(0, 0, 4, seen)
    topology = replace(TEXT, clusters=(cluster,), connections=())
    found = candidates(topology)
    assert AddField(0, Interval(1, 4)) not in found
    assert SplitField(0, 0, 1, 4) not in found
    assert {
        AddField(0, Interval(1, 2)),
        AddField(0, Interval(8, 16)),
        SplitField(0, 0, 2, 4),
    } <= set(found)


def test_middles_are_finer_where_lags_are_near() -> None:
    assert middles(Interval(0, 1)) == ()
    assert middles(Interval(4, 6)) == (5,)
    assert middles(Interval(0, 128)) == (10, 64)
