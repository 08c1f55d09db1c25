from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luminanet.frozen import FrozenNet
from luminanet.topology import Connection
from training.batches import ImageSource
from training.config import PRESETS, SEEDINGS, EvolutionConfig
from training.data import LABELS, load_images
from training.evolve import (
    Event,
    Signals,
    View,
    adopt,
    event_steps,
    evolve,
    measure,
    network,
    prune_connections,
    read_slots,
    trial,
)
from training.initial import initial_net
from training.mutations import Connect, Disconnect, Grow, Remove, Split
from training.network import Network
from training.trainer import Trainer
from training.transplant import mutate

CONFIG = replace(PRESETS["cifar10"], steps=40, batch=16, width=8, channel=4, held_out=0.2)


@pytest.fixture
def source(data: Path) -> ImageSource:
    return ImageSource(load_images(data, "train"), CONFIG, len(LABELS))


@pytest.fixture
def trainer(source: ImageSource) -> Trainer:
    net = initial_net(SEEDINGS["paper"](8, 4, 0), 0)
    trainer = Trainer(Network(net), CONFIG, torch.device("cpu"))
    for step in range(3):
        trainer.train(source.batch(step))
    return trainer


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
    assert all(e.kept for e in grown)


def test_the_weakest_old_connections_are_pruned_first(trainer: Trainer) -> None:
    net: FrozenNet = network(trainer).freeze()
    links = [Connection(source=s, target=t) for s in range(5) for t in range(5)]
    topology = net.topology.having(net.topology.clusters, links)
    gates = {c: 1.0 + c.source + c.target for c in links}
    gates[Connection(source=0, target=1)] = 0.01
    gates[Connection(source=4, target=4)] = -0.02
    young = Event(1, 0, 0.0, "connect", [[0, 1]], 1.0, 1.0, True, 1, 1, 1)
    view = View(
        FrozenNet(topology, net.clusters, gates, net.head),
        Signals({}, {}),
        EvolutionConfig(),
        number=2,
        history=[young],
    )
    assert prune_connections(view) == [Disconnect(source=4, target=4)]


def test_signals_cover_every_cluster_and_every_possible_connection(
    trainer: Trainer, source: ImageSource
) -> None:
    signals = measure(trainer, [source.batch(0)])
    assert set(signals.clusters) == set(range(12))
    assert len(signals.links) == 144
    assert min(signals.clusters.values()) > 0


def test_events_are_spread_between_start_and_stop() -> None:
    steps = event_steps(replace(CONFIG, steps=1000, evolution=EvolutionConfig(events=3)))
    assert steps == [20, 210, 400]
    assert event_steps(replace(CONFIG, evolution=None)) == []
