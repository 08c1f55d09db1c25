"""Evolution inside training, a hill climb: measure, propose mutations, try, keep or revert.

One event tries a few mutations, a kind at a time, as a policy ranks them (policies.py). A trial
changes weights, average and optimizer state together (transplant.py). What keeps the function is
kept without a trial: it cannot change the loss. What does not (a removal) is judged by the loss on
held-out training data, and kept when that rises by less than PRICE times the share of the cost
(MACs or latency, budget.py) that it saves. What an operator is, and which there are, only
operators/ knows.

An event of a run with `selected` is no climb but a selection (selection.py): what it removes is
chosen by worth and not tried.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from luminanet.topology import Connection
from training.config import EvolutionConfig, TrainConfig
from training.data.batches import Source, halves
from training.evolution.budget import saved
from training.evolution.operators.base import Field, Operator, operator, recorded
from training.evolution.policies import View, policy
from training.evolution.schedule import SCHEDULE
from training.evolution.selection import SELECTION, order
from training.evolution.signals import Signals, measure
from training.evolution.transplant import Slots, mutate
from training.evolution.worth import worths
from training.model.network import Network, pack
from training.step.trainer import Trainer

PROBE_BATCHES = 2
YOUNG = 3
"""Events for which a new connection is safe from pruning."""
PRICE = 0.05
"""What compute is worth: a removal may cost this share of the held-out loss times the share of the
cost that it saves, or it is taken back."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change: what was tried at which step, what it did to the held-out loss, and its fate."""

    event: int
    step: int
    seconds: float
    """How long it took."""
    operator: str
    targets: list[list[int]]
    loss_before: float | None
    loss_after: float | None
    """None: kept without a trial, because the function is the same."""
    kept: bool
    clusters: int
    connections: int
    parameters: int
    mutations: list[dict[str, Any]] = field(default_factory=list)
    """What was tried, as `Operator.record` writes it: enough to replay the evolution."""
    start: str = ""
    """In the first change of a run: the topology that the run started from."""
    worth: dict[str, float] = field(default_factory=dict)
    """In the first change of a selection: cluster -> what its field is worth (worth.py)."""

    @property
    def is_tried(self) -> bool:
        return self.loss_after is not None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def event_steps(config: TrainConfig) -> list[int]:
    """The steps before which evolution acts. Raises ConfigError as `proposals`."""
    if config.evolution is None:
        return []
    proposals(config.evolution)
    start, stop = config.evolution.start, config.evolution.stop
    shares = np.linspace(start, stop, config.evolution.events)
    return sorted({round(share * config.steps) for share in shares.tolist()})


Proposal = Callable[[View], Sequence[Operator]]
Judge = TypeVar("Judge")


def proposals(evolution: EvolutionConfig) -> list[Proposal]:
    """What an event tries, in this order. Raises ConfigError for a policy that it does not have."""
    if evolution.selected:
        return _judged(SELECTION, order(evolution.policy))
    return _judged(SCHEDULE, policy(evolution.policy))


def _judged(
    plans: Sequence[Callable[[View, Judge], Sequence[Operator]]], judge: Judge
) -> list[Proposal]:
    def judged(plan: Callable[[View, Judge], Sequence[Operator]]) -> Proposal:
        return lambda view: plan(view, judge)

    return [judged(plan) for plan in plans]


def evolve(
    trainer: Trainer,
    source: Source,
    evolution: EvolutionConfig,
    history: list[Event],
    number: int | None = None,
) -> list[Event]:
    """Event `number` (the next after the history) on the trainer's network; returns what was
    tried."""
    if number is None:
        number = 1 + max((event.event for event in history), default=-1)
    first = network(trainer).topology
    signals, seed = observed(trainer, source, evolution), trainer.config.seed
    loss: float | None = None
    tried: list[Event] = []
    for plan in proposals(evolution):
        net = network(trainer).freeze()
        safe = young(history, number), fresh(history, number)
        view = View(net, signals, evolution, number, seed, *safe)
        mutations = plan(view)
        if mutations:
            if loss is None and not mutations[0].exact:
                loss = trainer.score(source.held_out).loss
            event = attempt(trainer, source, view, mutations, loss)
            loss = event.loss_after if event.kept and event.is_tried else loss
            tried.append(event)
    if tried and signals.missed:
        worth = {str(c.id): signals.missed[c.fields] for c in first.clusters}
        tried[0] = replace(tried[0], worth=worth)
    if tried and not history:
        tried[0] = replace(tried[0], start=first.to_json())
    return tried


def observed(trainer: Trainer, source: Source, evolution: EvolutionConfig) -> Signals:
    """What an event decides by: a selection by one half of the held-out data, of which the other
    is left to score the network; a climb by training batches."""
    if evolution.selected:
        return Signals({}, {}, {}, {}, missed=worths(trainer, halves(source.held_out)[0]))
    batches = [source.batch(trainer.step + k) for k in range(PROBE_BATCHES)]
    return measure(trainer, batches, fields=evolution.fields > 0)


def attempt(
    trainer: Trainer,
    source: Source,
    view: View,
    mutations: Sequence[Operator],
    before: float | None,
) -> Event:
    """Makes mutations of one kind together, and keeps or reverts them; `before` is the loss, which
    is there for those that do not keep the function."""
    started = time.monotonic()
    slots = read_slots(trainer)
    for k, mutation in enumerate(mutations):
        slots = mutate(slots, mutation, view.seed * 1_000_003 + trainer.step + k)
    kept, after = True, None
    if mutations[0].exact:
        adopt(trainer, slots)
    else:
        assert before is not None
        tolerance = PRICE * saved(view.topology, slots.topology, view.config)
        tolerance = math.inf if view.config.selected else tolerance
        kept, after = trial(trainer, source, slots, before, tolerance)
    topology = network(trainer).topology
    return Event(
        event=view.number,
        step=trainer.step,
        seconds=round(time.monotonic() - started, 3),
        operator=mutations[0].name,
        targets=[target for m in mutations for target in m.targets(view.topology)],
        loss_before=None if after is None else before,
        loss_after=after,
        kept=kept,
        clusters=len(topology.clusters),
        connections=len(topology.connections),
        parameters=topology.parameters,
        mutations=[mutation.record() for mutation in mutations],
    )


def young(history: list[Event], number: int) -> frozenset[Connection]:
    """Connections that were made in the last YOUNG events."""
    return frozenset(
        Connection(source=source, target=target)
        for event in history
        if number - event.event < YOUNG and operator(event.operator).connects
        for source, target in event.targets
    )


def fresh(history: list[Event], number: int) -> frozenset[Field]:
    """Fields that were added, whole or as parts, in the last YOUNG events."""
    return frozenset(
        field
        for event in history
        if number - event.event < YOUNG
        for raw in event.mutations
        for field in recorded(raw).brings()
    )


def trial(
    trainer: Trainer, source: Source, slots: Slots, before: float, tolerance: float
) -> tuple[bool, float]:
    """Adopts `slots` when the held-out loss allows it; (kept, loss with them)."""
    old = read_slots(trainer)
    adopt(trainer, slots)
    after = trainer.score(source.held_out).loss
    kept = math.isfinite(after) and after <= before * (1 + tolerance)
    if not kept:
        adopt(trainer, old)
    return kept, after


# ---------------------------------------------------------------------- the trainer's state


def network(trainer: Trainer) -> Network:
    assert isinstance(trainer.model, Network)
    return trainer.model


def read_slots(trainer: Trainer) -> Slots:
    model = network(trainer)
    names = [name for name, _ in model.named_parameters()]
    first = {name: trainer.moments(name)[0] for name in names}
    second = {name: trainer.moments(name)[1] for name in names}
    return Slots(
        weights=model.freeze(),
        average=model.unpacked(trainer.average),
        first_moment=model.unpacked(first),
        second_moment=model.unpacked(second),
    )


def adopt(trainer: Trainer, slots: Slots) -> None:
    model = network(trainer)
    trainer.use(Network(slots.weights, model.options, model.white))
    average, first = pack(slots.average), pack(slots.first_moment)
    for name, second in pack(slots.second_moment).items():
        trainer.average[name] = average[name].to(trainer.device)
        trainer.set_moments(name, first[name], second)
