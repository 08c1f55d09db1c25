"""What holds for every operator, whatever it does."""

import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from luminanet.errors import TopologyError
from luminanet.fields import Interval
from luminanet.reference import forward
from luminanet.topology import Topology
from tests.nets import random_weights, tiny_text_topology
from training.evolution.operators.base import OPERATORS, Operator, Role, operator, recorded
from training.evolution.operators.clusters import Grow, OneCluster, Remove, Shrink, Split
from training.evolution.operators.connections import Connect, ConnectLevels, Disconnect
from training.evolution.operators.fields import AddField, DropField, SplitField
from training.evolution.transplant import transplant

TEXT = tiny_text_topology(300)
SAMPLES: dict[str, Operator] = {
    "split": Split(1, 0),
    "grow": Grow(0, 3),
    "shrink": Shrink(0, (2, 5)),
    "remove": Remove(2),
    "connect": Connect(0, 1),
    "disconnect": Disconnect(0, 2),
    "bus": ConnectLevels(0, 0),
    "see": AddField(0, Interval(3, 4)),
    "refine": SplitField(1, 2, 4, 16),
    "overlook": DropField(1, Interval(0, 1)),
}


def test_operators_are_called_what_logs_call_them() -> None:
    assert set(OPERATORS) == set(SAMPLES)
    assert all(type(mutation) is OPERATORS[name] for name, mutation in SAMPLES.items())


def test_whoever_knows_what_an_operator_is_knows_all_of_them() -> None:
    code = "from training.evolution.operators.base import OPERATORS; print(len(OPERATORS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(len(SAMPLES)), done.stderr


@pytest.mark.parametrize("name", SAMPLES)
def test_an_operator_keeps_the_function_if_it_says_so_and_only_then(name: str) -> None:
    net, mutation = random_weights(TEXT), SAMPLES[name]
    tokens = np.random.default_rng(1).integers(-1, 300, (4, 16))
    before, after = forward(net, tokens), forward(transplant(net, mutation, 3), tokens)
    moved = np.abs(after - before).max() / max(1.0, np.abs(before).max())
    assert (moved <= 1e-5) == mutation.exact


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("role", Role)
def test_what_is_carried_fits_the_topology_in_every_role(name: str, role: Role) -> None:
    after = transplant(random_weights(TEXT), SAMPLES[name], 3, role)
    assert after.topology == SAMPLES[name].apply(TEXT)
    assert set(after.clusters) == set(after.topology.by_id)
    assert tuple(after.gates) == after.topology.connections


@pytest.mark.parametrize("name", SAMPLES)
def test_every_operator_survives_being_written_down(name: str) -> None:
    assert recorded(SAMPLES[name].record()) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_targets_of_what_connects_are_its_new_connections_and_of_others_are_none(name: str) -> None:
    mutation = SAMPLES[name]
    links = {(c.source, c.target) for c in mutation.apply(TEXT).connections}
    made = links - {(c.source, c.target) for c in TEXT.connections}
    targets = {tuple(target) for target in mutation.targets(TEXT)}
    assert (made == targets) == mutation.connects


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_that_are_brought_were_not_there_before(name: str) -> None:
    mutation = SAMPLES[name]
    after = mutation.apply(TEXT)
    seen, now = (
        {(c.id, f) for c in t.clusters if c.id in TEXT.by_id for f in c.fields}
        for t in (TEXT, after)
    )
    assert set(mutation.brings()) == now - seen


@pytest.mark.parametrize(
    ("name", "targets", "words"),
    [
        ("grow", [[3]], "grow cluster 3"),
        ("grow", [[3], [5]], "grow clusters 3, 5"),
        ("connect", [[0, 1]], "add 1 connection"),
        ("bus", [[0, 1]] * 1200, "connect levels by 1,200 connections"),
        ("refine", [[0, 4, 6, 8]], "split 1 field"),
        ("overlook", [[0, 4, 6]] * 2, "leave out 2 fields"),
    ],
)
def test_a_trial_is_told_in_words(name: str, targets: list[list[int]], words: str) -> None:
    assert operator(name).described(targets) == words


def test_an_operator_that_is_not_known_is_named() -> None:
    with pytest.raises(TopologyError, match="'melt' is none of the operators bus, connect"):
        operator("melt")


def test_a_name_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evolution.operators.base.OPERATORS", dict(OPERATORS))
    with pytest.raises(AssertionError, match="two operators are called grow"):

        @dataclass(frozen=True, slots=True)
        class Melt(OneCluster):
            name: ClassVar[str] = "grow"

            def apply(self, topology: Topology) -> Topology:
                return topology
