"""Evolution inside training: read signals, propose mutations, try each, keep or revert.

One event tries a few mutations, a kind at a time, as a policy ranks them (policies.py). A trial
changes weights, average and optimizer state together (transplant.py) and is judged by the loss on
held-out training data: what keeps the function is kept; a removal is kept when it costs less than
`price` times the share of the cost (MACs or latency, budget.py) that it saves.
"""

import math
import time
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

import numpy as np

from luminanet.topology import Connection, Topology
from training.config import EvolutionConfig, TrainConfig
from training.data.batches import Source
from training.evolution.budget import saved
from training.evolution.field_candidates import brought
from training.evolution.mutations import (
    Bus,
    Connect,
    Disconnect,
    Mutation,
    Overlook,
    Refine,
    Remove,
    See,
    Shrink,
    bus,
    record,
    recorded,
)
from training.evolution.policies import Field, View, policy
from training.evolution.schedule import PLANS
from training.evolution.signals import measure
from training.evolution.transplant import Slots, mutate
from training.model.network import Network, pack
from training.step.trainer import Trainer

PROBE_BATCHES = 2
YOUNG = 3
"""Events for which a new connection is safe from pruning."""
ROUNDING = 1e-3
"""Relative change of the held-out loss that bf16 may show where the function is kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """One trial: what was tried at which step, what it did to the held-out loss, and its fate."""

    event: int
    step: int
    seconds: float
    """How long the trial took."""
    operator: str
    targets: list[list[int]]
    loss_before: float
    loss_after: float
    kept: bool
    clusters: int
    connections: int
    parameters: int
    mutations: list[dict[str, Any]] = field(default_factory=list)
    """What was tried, as `mutations.record` writes it: enough to replay the evolution."""
    start: str = ""
    """In the first trial of a run: the topology that the run started from."""

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def event_steps(config: TrainConfig) -> list[int]:
    """The steps before which evolution acts."""
    if config.evolution is None:
        return []
    start, stop = config.evolution.start, config.evolution.stop
    shares = np.linspace(start, stop, config.evolution.events)
    return sorted({round(share * config.steps) for share in shares.tolist()})


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
    start = "" if history else network(trainer).topology.to_json()
    batches = [source.batch(trainer.step + k) for k in range(PROBE_BATCHES)]
    signals = measure(trainer, batches, fields=evolution.fields > 0)
    chosen, seed = policy(evolution.policy), trainer.config.seed
    loss = trainer.score(source.held_out).loss
    tried: list[Event] = []
    for plan in PLANS:
        net = network(trainer).freeze()
        safe = young(history, number), fresh(history, number)
        view = View(net, signals, evolution, number, seed, *safe)
        mutations = plan(view, chosen)
        if mutations:
            event = attempt(trainer, source, view, mutations, loss, "" if tried else start)
            loss = event.loss_after if event.kept else loss
            tried.append(event)
    return tried


def attempt(
    trainer: Trainer,
    source: Source,
    view: View,
    mutations: list[Mutation],
    before: float,
    start: str,
) -> Event:
    """Tries mutations of one kind together, and keeps or reverts them; `before` is the loss."""
    started = time.monotonic()
    slots = read_slots(trainer)
    for k, mutation in enumerate(mutations):
        slots = mutate(slots, mutation, view.seed * 1_000_003 + trainer.step + k)
    tolerance = ROUNDING
    if isinstance(mutations[0], Disconnect | Remove | Shrink | Overlook):
        tolerance = view.config.price * saved(view.topology, slots.topology, view.config)
    kept, after = trial(trainer, source, slots, before, tolerance)
    topology = network(trainer).topology
    return Event(
        event=view.number,
        step=trainer.step,
        seconds=round(time.monotonic() - started, 3),
        operator=type(mutations[0]).__name__.lower(),
        targets=[target for m in mutations for target in _targets(view.topology, m)],
        loss_before=before,
        loss_after=after,
        kept=kept,
        clusters=len(topology.clusters),
        connections=len(topology.connections),
        parameters=topology.parameters,
        mutations=[record(mutation) for mutation in mutations],
        start=start,
    )


def young(history: list[Event], number: int) -> frozenset[Connection]:
    """Connections that were made in the last YOUNG events."""
    return frozenset(
        Connection(source=source, target=target)
        for event in history
        if event.operator in ("connect", "bus") and number - event.event < YOUNG
        for source, target in event.targets
    )


def fresh(history: list[Event], number: int) -> frozenset[Field]:
    """Fields that were added or refined in the last YOUNG events."""
    changes = [
        recorded(raw)
        for event in history
        if event.operator in ("see", "refine") and number - event.event < YOUNG
        for raw in event.mutations
    ]
    return frozenset(
        (change.cluster, field)
        for change in changes
        if isinstance(change, See | Refine)
        for field in brought(change)
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


def _targets(before: Topology, mutation: Mutation) -> list[list[int]]:
    """What a mutation is about: connections as [source, target], fields as [cluster, numbers of the
    field ...], else a cluster."""
    match mutation:
        case Connect(source, target) | Disconnect(source, target):
            return [[source, target]]
        case Bus(source, target):
            return [[c.source, c.target] for c in bus(before, source, target)]
        case See(cluster, field) | Overlook(cluster, field):
            return [[cluster, *astuple(field)]]
        case Refine():
            return [list(astuple(mutation))]
        case _:
            return [[mutation.cluster]]


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
