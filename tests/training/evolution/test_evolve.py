import json
import math
from dataclasses import replace

import pytest
import torch

from luminanet.fields import Interval
from luminanet.topology import Connection
from training.config import EvolutionConfig
from training.data.batches import ImageSource
from training.evolution.budget import saved
from training.evolution.evolve import (
    Event,
    adopt,
    event_steps,
    evolve,
    fresh,
    network,
    read_slots,
    trial,
    young,
)
from training.evolution.operators.clusters import Grow, Remove, Split
from training.evolution.operators.connections import Connect
from training.evolution.operators.fields import AddField, SplitField
from training.evolution.transplant import mutate
from training.presets import IMAGE_PRESETS, TEXT_PRESETS
from training.step.trainer import Trainer
from training.topologies import SEEDINGS


def test_reading_and_adopting_the_state_changes_nothing(
    trainer: Trainer, source: ImageSource
) -> None:
    before = trainer.state()
    adopt(trainer, read_slots(trainer))
    after = trainer.state()
    for slot in ("weights", "average", "first_moment", "second_moment"):
        for name, value in before[slot].items():
            assert torch.equal(value, after[slot][name]), (slot, name)


@pytest.mark.parametrize("mutation", [Grow(0, 4), Split(0, 0), Split(0, 1), Connect(0, 1)])
def test_the_held_out_loss_is_the_same_after_a_mutation_that_keeps_the_function(
    trainer: Trainer, source: ImageSource, mutation: Grow | Split | Connect
) -> None:
    before = trainer.score(source.held_out).loss
    adopt(trainer, mutate(read_slots(trainer), mutation, 0))
    assert trainer.score(source.held_out).loss == pytest.approx(before, rel=2e-3)
    trainer.train(source.batch(3))


def test_a_trial_that_costs_too_much_is_taken_back(trainer: Trainer, source: ImageSource) -> None:
    for step in range(3, 40):
        trainer.train(source.batch(step))
    before = trainer.score(source.held_out).loss
    state, topology = trainer.state(), network(trainer).topology
    slots = read_slots(trainer)
    for cluster in range(11):
        slots = mutate(slots, Remove(cluster), 0)
    kept, after = trial(trainer, source, slots, before, tolerance=0.002)
    assert not kept
    assert after > before
    assert network(trainer).topology == topology
    for name, value in state["weights"].items():
        assert torch.equal(value, trainer.state()["weights"][name])


def test_an_event_grows_splits_and_connects_within_its_budgets(
    trainer: Trainer, source: ImageSource
) -> None:
    limits = EvolutionConfig(max_parameters=40_000, max_width=16, neurons=4, connections=20)
    history: list[Event] = []
    for _ in range(8):
        history += evolve(trainer, source, limits, history)
        trainer.train(source.batch(trainer.step))
    topology = network(trainer).topology
    assert topology.parameters <= 40_000
    assert max(c.width for c in topology.clusters) <= 16
    assert max(c.level for c in topology.clusters) <= limits.max_level
    tried = {event.operator for event in history}
    assert {"grow", "split", "connect", "disconnect", "remove"} <= tried
    assert [e.event for e in history] == sorted(e.event for e in history)
    grown = [e for e in history if e.operator in ("grow", "split", "connect")]
    assert all(e.kept and not e.is_tried for e in grown)
    removed = [e for e in history if e.operator in ("disconnect", "remove", "shrink")]
    assert all(e.is_tried for e in removed)
    assert all(e.loss_before is not None and math.isfinite(e.loss_before) for e in removed)


def test_what_keeps_the_function_costs_no_evaluation_of_held_out_data(
    trainer: Trainer, source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "score", lambda *_: pytest.fail("evaluated"))
    limits = EvolutionConfig(max_parameters=40_000, max_width=16, neurons=4, connections=20)
    before = network(trainer).topology
    (grow, split, connect) = evolve(trainer, source, limits, [])
    assert [e.operator for e in (grow, split, connect)] == ["grow", "split", "connect"]
    assert (connect.loss_before, connect.loss_after, connect.kept) == (None, None, True)
    after = network(trainer).topology
    assert len(after.clusters) == len(before.clusters) + 1 == connect.clusters
    assert len(after.connections) == connect.connections > 0
    assert "NaN" not in json.dumps(connect.to_dict())


def test_events_are_spread_between_start_and_stop() -> None:
    steps = event_steps(
        IMAGE_PRESETS["cifar10"].having(steps=1000, evolution=EvolutionConfig(events=3))
    )
    assert steps == [20, 210, 400]
    assert event_steps(TEXT_PRESETS["gpt2"]) == []


def test_new_connections_are_young_for_three_events() -> None:
    made = Event(4, 0, 0.0, "connect", [[0, 1]], 1.0, 1.0, True, 1, 1, 1)
    pruned = Event(4, 0, 0.0, "disconnect", [[2, 3]], 1.0, 1.0, True, 1, 1, 1)
    assert young([made, pruned], 6) == {Connection(source=0, target=1)}
    assert young([made, pruned], 7) == frozenset()


def test_new_fields_are_fresh_for_three_events() -> None:
    made = Event(4, 0, 0.0, "see", [[0, 3, 4]], 1.0, 1.0, True, 1, 1, 1)
    made = replace(
        made, mutations=[AddField(0, Interval(3, 4)).record(), SplitField(1, 4, 5, 8).record()]
    )
    gone = Event(4, 0, 0.0, "overlook", [[0, 3, 4]], 1.0, 1.0, True, 1, 1, 1)
    found = {(0, Interval(3, 4)), (1, Interval(4, 5)), (1, Interval(5, 8))}
    assert fresh([made, gone], 6) == found
    assert fresh([made, gone], 7) == frozenset()
    bus = Event(4, 0, 0.0, "bus", [[0, 1], [0, 2]], 1.0, 1.0, True, 1, 1, 1)
    assert len(young([bus], 6)) == 2


def test_a_removal_may_cost_more_the_more_compute_it_saves() -> None:
    topology, config = SEEDINGS["paper"](8, 4, 0), EvolutionConfig()
    one = Remove(0).apply(topology)
    assert saved(topology, one, config) == pytest.approx(1 / 12)
    assert saved(topology, Remove(1).apply(one), config) == pytest.approx(2 / 12)
    assert saved(one, topology, config) == 0.0


@pytest.mark.parametrize("name", ["random", "hebbian"])
def test_every_policy_evolves_the_network(trainer: Trainer, source: ImageSource, name: str) -> None:
    limits = EvolutionConfig(policy=name, neurons=4, connections=5)
    tried = evolve(trainer, source, limits, [])
    assert [event.operator for event in tried] == ["grow", "split", "connect"]
    assert all(event.kept for event in tried)


def test_an_event_that_finds_nothing_to_try_does_not_stop_the_rhythm(
    trainer: Trainer, source: ImageSource
) -> None:
    full = EvolutionConfig(max_parameters=1, neurons=2, connections=0)
    history: list[Event] = []
    for number in range(5):
        history += evolve(trainer, source, full, history, number)
    assert [(e.event, e.operator) for e in history] == [(1, "shrink"), (4, "remove")]
