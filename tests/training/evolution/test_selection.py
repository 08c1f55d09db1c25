"""Selection: many narrow clusters, of which a few wide ones are left by what they are worth."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luminanet.cost.macs import macs
from luminanet.errors import ConfigError
from luminanet.fields import Patch
from luminanet.frozen import FrozenNet
from luminanet.topology import Topology
from training import checkpoint
from training.analysis.history import read_events, replay_to
from training.analysis.page import Story
from training.analysis.page import data as data_of
from training.config import EvolutionConfig, ImageConfig
from training.data.batches import ImageSource, halves
from training.evolution.evolve import Event, event_steps, evolve, network, proposals
from training.evolution.operators.clusters import Remove
from training.evolution.policies import View
from training.evolution.selection import ORDERS, apportioned, double, join, prune, seats, widen
from training.evolution.signals import Signals
from training.evolution.transplant import transplant
from training.evolution.worth import Choice, by_choice, silent, worths
from training.model.initial import initial_net
from training.model.network import Network
from training.presets import IMAGE_PRESETS
from training.run.run import CHECKPOINT, EVENTS, Interrupted, Run
from training.run.task import prepare
from training.step.trainer import Trainer
from training.topologies import SEEDINGS

LIMITS = EvolutionConfig(policy="worth", selected=6, max_macs=40_000, max_width=64)
FEW = SEEDINGS["scales-dense"](4, 4, 0)
"""8 windows, 8 of 2x2 means, and the thumbnail 8 times."""


@pytest.fixture
def many(source: ImageSource, small: ImageConfig) -> Trainer:
    trainer = Trainer(Network(initial_net(FEW, 0)), small, torch.device("cpu"))
    for step in range(3):
        trainer.train(source.batch(step))
    return trainer


def view(policy: str = "worth", net: FrozenNet | None = None, seed: int = 0) -> View:
    """The choice number k is worth 17 - k, but the thumbnail, the last, 40."""
    net = net or initial_net(FEW, 0)
    missed = {choice: 17.0 - k for k, choice in enumerate(by_choice(FEW))}
    missed[(THUMBNAIL,)] = 40.0
    config = replace(LIMITS, policy=policy)
    return View(net, Signals({}, {}, {}, {}, missed=missed), config, 0, seed)


THUMBNAIL = Patch((0, 1, 2), 0, 0, 8, 8, 4)


def chosen(topology: Topology) -> Counter[tuple[object, ...]]:
    return Counter(c.fields for c in topology.clusters)


# ---------------------------------------------------------------------- worth


def test_what_is_silenced_is_neither_heard_nor_read_and_speaks_again_afterwards(
    many: Trainer, source: ImageSource
) -> None:
    model, inputs = network(many), source.batch(0).inputs
    whole = model(inputs)
    pruned = model.freeze()
    for cluster in (0, 20):
        zero = {n: 0 * getattr(pruned.clusters[cluster], n) for n in ("send_HD", "readout_HO")}
        mute = replace(pruned.clusters[cluster], **zero)
        pruned = replace(pruned, clusters={**pruned.clusters, cluster: mute})
    with silent(model, (0, 20)):
        assert torch.equal(model(inputs), Network(pruned)(inputs))
    assert torch.equal(model(inputs), whole)


def test_a_choice_is_worth_what_the_loss_rises_without_all_clusters_that_made_it(
    many: Trainer, source: ImageSource
) -> None:
    model, held_out = network(many), source.held_out
    found = worths(many, held_out)
    assert set(found) == set(by_choice(FEW))
    assert len(found) == 17
    thumbnails = by_choice(FEW)[(THUMBNAIL,)]
    assert len(thumbnails) == 8
    before = many.score(held_out).loss
    with silent(model, thumbnails):
        rise = many.score(held_out).loss - before
    # A neuron that sees 192 pixels costs 192 MACs to see them, and 10 to be read.
    assert found[(THUMBNAIL,)] == pytest.approx(1000 * rise / 202)
    assert many.score(held_out).loss == before


def test_the_half_that_measures_and_the_half_that_scores_are_all_and_have_nothing_in_common(
    source: ImageSource,
) -> None:
    measuring, scoring = halves(source.held_out)
    for whole, one, other in zip(source.held_out, measuring, scoring, strict=True):
        assert torch.equal(whole.inputs[::2], one.inputs)
        assert torch.equal(whole.inputs[1::2], other.inputs)
        assert len(whole.targets) == len(one.targets) + len(other.targets)


# ---------------------------------------------------------------------- seats and plans


def test_seats_are_in_proportion_to_worths() -> None:
    pairs: dict[Choice, float] = {
        (Patch((0,), k, 0, 8, 8),): worth for k, worth in enumerate([6.0, 3.0, 2.0, 1.0])
    }
    assert list(apportioned(pairs, 12).values()) == [6, 3, 2, 1]
    assert list(apportioned(pairs, 1).values()) == [1, 0, 0, 0]
    assert list(apportioned(dict.fromkeys(pairs, 0.0), 6).values()) == [2, 2, 1, 1]


def test_by_worth_the_most_missed_have_the_seats_and_by_worst_the_least_missed() -> None:
    fields = list(by_choice(FEW))
    best = seats(view(), ORDERS["worth"])
    worst = seats(view(), ORDERS["worst"])
    assert {c: n for c, n in best.items() if n} == {
        **dict.fromkeys(fields[:4], 1),
        fields[-1]: 2,
    }
    assert {c: n for c, n in worst.items() if n} == {
        **dict.fromkeys(fields[-6:-2], 1),
        fields[-2]: 2,
    }


def test_chance_deals_out_the_same_worths_and_draws_others_with_another_seed() -> None:
    draws = [seats(view("random", seed=seed), ORDERS["random"]) for seed in range(4)]
    assert all(sorted(d.values()) == sorted(draws[0].values()) for d in draws)
    assert sorted(draws[0].values()) == sorted(seats(view(), ORDERS["worth"]).values())
    assert any(d != draws[0] for d in draws)
    assert draws[0] == seats(view("random", seed=0), ORDERS["random"])


@pytest.mark.parametrize("policy", sorted(ORDERS))
def test_what_is_left_has_its_seats_and_is_as_wide_as_the_budget_allows(policy: str) -> None:
    net, plans = initial_net(FEW, 0), proposals(replace(LIMITS, policy=policy))
    wanted = {c: n for c, n in seats(view(policy), ORDERS[policy]).items() if n}
    for plan in plans:
        for mutation in plan(view(policy, net)):
            net = transplant(net, mutation)
    topology = net.topology
    assert chosen(topology) == wanted
    (width,) = {c.width for c in topology.clusters}
    assert macs(topology) <= LIMITS.max_macs < macs(wider(topology))
    assert width > 4
    assert len(topology.connections) == 6 * 6  # who was dense stays dense


def test_levels_that_do_not_hear_each_other_are_joined_where_buses_may_be_made() -> None:
    alone = view(net=initial_net(FEW.having(FEW.clusters, []), 0))
    assert join(alone, ORDERS["worth"]) == []
    buses = replace(alone, config=replace(LIMITS, buses=True))
    topology = FEW.having(FEW.clusters, [])
    for mutation in join(buses, ORDERS["worth"]):
        topology = mutation.apply(topology)
    assert set(topology.connections) == set(FEW.connections)


def wider(topology: Topology) -> Topology:
    clusters = [replace(c, width=c.width + 1) for c in topology.clusters]
    return topology.having(clusters, topology.connections)


def test_of_clones_those_that_say_most_are_left() -> None:
    net = initial_net(FEW, 0)
    clones = by_choice(FEW)[(THUMBNAIL,)]
    loud = replace(net.clusters[clones[5]], readout_HO=9 * net.clusters[clones[5]].readout_HO)
    net = replace(net, clusters={**net.clusters, clones[5]: loud})
    gone = {m.targets(FEW)[0][0] for m in prune(view(net=net), ORDERS["worth"])}
    assert clones[5] not in gone
    assert len(gone & set(clones)) == 6


def test_a_field_of_more_seats_than_clusters_has_each_cluster_split_in_turn() -> None:
    alone = initial_net(FEW, 0)
    for cluster in range(1, 24):
        alone = transplant(alone, Remove(cluster))
    one = replace(view(net=alone), signals=Signals({}, {}, {}, {}, missed={FEW.by_id[0].fields: 1}))
    splits = [split.targets(FEW)[0][0] for split in double(one, ORDERS["worth"])]
    assert splits == [0, 0, 1, 0, 1]


def test_clusters_that_do_not_fit_the_budget_are_refused_with_what_to_do() -> None:
    tight = replace(view(), config=replace(LIMITS, max_macs=1000))
    with pytest.raises(ConfigError, match=r"24 clusters of 4 neurons.*--width"):
        widen(tight, ORDERS["worth"])


def test_a_policy_of_the_other_kind_of_event_is_refused_before_a_run_trains() -> None:
    odd = small_run().having(evolution=replace(LIMITS, policy="hebbian"))
    with pytest.raises(ConfigError, match="'hebbian' is none of"):
        event_steps(odd)
    with pytest.raises(ConfigError, match="'gradient' is none of"):
        proposals(replace(LIMITS, policy="gradient"))
    with pytest.raises(ConfigError, match="'worth' is none of"):
        proposals(EvolutionConfig(policy="worth"))
    with pytest.raises(ConfigError, match="negative"):
        EvolutionConfig(selected=-1)


# ---------------------------------------------------------------------- events and runs


def test_a_selection_is_one_event_whose_removals_are_not_taken_back(
    many: Trainer, source: ImageSource
) -> None:
    events = evolve(many, source, LIMITS, [])
    assert events[0].operator == "remove"
    assert {e.operator for e in events} <= {"remove", "split", "grow"}
    assert all(e.kept for e in events)
    assert {e.event for e in events} == {0}
    assert len(network(many).topology.clusters) == 6
    many.train(source.batch(3))


def test_survivors_keep_what_they_learned_and_how_it_moves(
    many: Trainer, source: ImageSource
) -> None:
    before, moved = network(many).freeze(), network(many).unpacked(many.average)
    evolve(many, source, LIMITS, [])
    after = network(many).freeze()
    average = network(many).unpacked(many.average)
    own = [c for c in after.clusters if c in before.clusters]
    assert own
    for cluster in own:
        old, new = before.clusters[cluster].see_IH, after.clusters[cluster].see_IH
        assert (new[:, : old.shape[1]] == old).all()
        assert (average.clusters[cluster].see_IH[:, :4] == moved.clusters[cluster].see_IH).all()


def test_the_log_says_what_each_cluster_was_worth(many: Trainer, source: ImageSource) -> None:
    found = worths(many, halves(source.held_out)[0])
    events = evolve(many, source, LIMITS, [])
    assert events[0].worth == {str(c.id): found[c.fields] for c in FEW.clusters}
    assert all(not e.worth for e in events[1:])
    assert Event(**events[0].to_dict()) == events[0]  # type: ignore[arg-type]


def small_run(steps: int = 12) -> ImageConfig:
    preset = IMAGE_PRESETS["cifar10-selected"]
    assert preset.evolution
    evolution = replace(preset.evolution, start=0.5, stop=0.5, selected=6, max_macs=30_000)
    small = preset.having(steps=steps, batch=16, width=2, channel=4, held_out=0.2, whiten=0.0)
    return small.having(check_every=4, evolution=evolution)


def test_a_run_with_a_selection_can_be_replayed_and_ends_within_its_budget(
    data: Path, tmp_path: Path
) -> None:
    run = started(data, tmp_path)
    run.train()
    done = checkpoint.load(tmp_path / CHECKPOINT)
    assert isinstance(done.net, FrozenNet)
    history = replay_to(done.net.topology, read_events(tmp_path / EVENTS))
    shown = data_of(Story("selected", done.net, history))["trials"][0]
    assert "(worth " in shown["words"]
    assert shown["kept"]
    assert len(history.start.clusters) == 75
    assert len(done.net.topology.clusters) == 6
    assert macs(done.net.topology) <= 30_000
    assert sum(len(b.targets) for b in run.unseen) < sum(
        len(b.targets) for b in run.task.source.held_out
    )


@pytest.mark.parametrize("stop_at", [5, 8])
def test_a_run_that_is_interrupted_before_or_after_its_selection_ends_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    whole = started(data, tmp_path / "whole")
    whole.train()
    parts = started(data, tmp_path / "parts")
    train = parts.trainer.train

    def stopping(batch: object) -> float:
        if parts.trainer.step == stop_at:
            parts.save()
            raise Interrupted(15, stop_at)
        return train(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(parts.trainer, "train", stopping)
    with pytest.raises(Interrupted):
        parts.train()
    again = started(data, tmp_path / "parts")
    assert again.trainer.step == stop_at
    again.train()
    ends = [run.trainer.state()["weights"] for run in (whole, again)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    worth = [[e.worth for e in run.history] for run in (whole, again)]
    assert worth[0] == worth[1]


def started(data: Path, out: Path) -> Run:
    config = small_run()
    return Run(config, prepare(config, data, None), out, torch.device("cpu"), "test")
