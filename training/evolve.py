"""Evolution inside training: read signals, propose mutations, try each, keep or revert.

One event tries a few mutations, a kind at a time. A trial changes weights, average and optimizer
state together (transplant.py) and is judged by the loss on held-out training data: what keeps
the function is kept, a removal is kept only when it costs less than `tolerance`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from luminanet.frozen import ClusterWeights, FrozenNet
from luminanet.topology import Connection
from training.batches import Batch, Source
from training.config import EvolutionConfig, TrainConfig
from training.mutations import (
    Connect,
    Disconnect,
    Grow,
    Mutation,
    Remove,
    Shrink,
    Split,
    apply,
)
from training.network import Network, pack, positions, unpack
from training.trainer import Trainer
from training.transplant import Slots, mutate

PROBE_BATCHES = 2
MIN_CONNECTIONS = 16
"""Fewer connections are not pruned."""
PRUNED_SHARE = 0.05
YOUNG = 3
"""Events for which a new connection is safe from pruning."""
FREE = 1e-3
"""Relative change of the held-out loss that bf16 rounding alone may show."""


@dataclass(frozen=True, slots=True)
class Event:
    """One trial: what was tried at which step, what it did to the held-out loss, and its fate."""

    event: int
    step: int
    seconds: float
    operator: str
    targets: list[list[int]]
    loss_before: float
    loss_after: float
    kept: bool
    clusters: int
    connections: int
    parameters: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Signals:
    """What training knows: gradient norm per neuron of every cluster, and what each possible
    connection would be worth (|d loss / d mixing weight|, the correlation of the source's message
    with the target's gradient)."""

    clusters: dict[int, float]
    links: dict[Connection, float]


def event_steps(config: TrainConfig) -> list[int]:
    """The steps before which evolution acts."""
    if config.evolution is None:
        return []
    start, stop = config.evolution.start, config.evolution.stop
    shares = np.linspace(start, stop, config.evolution.events)
    return sorted({round(share * config.steps) for share in shares.tolist()})


def evolve(
    trainer: Trainer, source: Source, evolution: EvolutionConfig, history: list[Event]
) -> list[Event]:
    """One event on the trainer's network; returns what was tried."""
    number = 1 + max((event.event for event in history), default=-1)
    started = time.monotonic()
    signals = measure(trainer, [source.batch(trainer.step + k) for k in range(PROBE_BATCHES)])
    tried: list[Event] = []
    for plan in PLANS:
        slots = read_slots(trainer)
        mutations = plan(View(slots.weights, signals, evolution, number, history))
        if not mutations:
            continue
        before = trainer.score(source.held_out).loss
        seed = trainer.config.seed * 1_000_003 + trainer.step
        for k, mutation in enumerate(mutations):
            slots = mutate(slots, mutation, seed + k)
        lossy = isinstance(mutations[0], Disconnect | Remove | Shrink)
        kept, after = trial(trainer, source, slots, before, evolution.tolerance if lossy else FREE)
        topology = network(trainer).topology
        tried.append(
            Event(
                event=number,
                step=trainer.step,
                seconds=round(time.monotonic() - started, 3),
                operator=type(mutations[0]).__name__.lower(),
                targets=[_target(mutation) for mutation in mutations],
                loss_before=before,
                loss_after=after,
                kept=kept,
                clusters=len(topology.clusters),
                connections=len(topology.connections),
                parameters=topology.parameters,
            )
        )
    return tried


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


def _target(mutation: Mutation) -> list[int]:
    if isinstance(mutation, Connect | Disconnect):
        return [mutation.source, mutation.target]
    return [mutation.cluster]


# ---------------------------------------------------------------------- the trainer's state


def network(trainer: Trainer) -> Network:
    assert isinstance(trainer.model, Network)
    return trainer.model


def read_slots(trainer: Trainer) -> Slots:
    model = network(trainer)
    names = [name for name, _ in model.named_parameters()]
    first = {name: trainer.moments(name)[0] for name in names}
    second = {name: trainer.moments(name)[1] for name in names}
    frozen = model.frozen
    return Slots(
        weights=model.freeze(),
        average=unpack(frozen, trainer.average),
        first_moment=unpack(frozen, first),
        second_moment=unpack(frozen, second),
    )


def adopt(trainer: Trainer, slots: Slots) -> None:
    trainer.use(Network(slots.weights, trainer.config.dropout))
    average, first = pack(slots.average), pack(slots.first_moment)
    for name, second in pack(slots.second_moment).items():
        trainer.average[name] = average[name].to(trainer.device)
        trainer.set_moments(name, first[name], second)


def measure(trainer: Trainer, batches: list[Batch]) -> Signals:
    model = network(trainer)
    model.eval()
    at = positions(model.topology)
    probe = torch.zeros(len(at), len(at), device=trainer.device, requires_grad=True)
    trainer.optimizer.zero_grad(set_to_none=False)
    for batch in batches:
        trainer.loss(batch, probe=probe).backward()  # type: ignore[no-untyped-call]
    gradient = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }
    frozen = unpack(model.frozen, gradient)
    trainer.optimizer.zero_grad(set_to_none=False)
    assert probe.grad is not None
    worth = probe.grad.abs().tolist()
    return Signals(
        clusters={
            c.id: _norm(frozen.clusters[c.id]) / math.sqrt(c.width) for c in model.topology.clusters
        },
        links={Connection(source=s, target=t): worth[at[t]][at[s]] for s in at for t in at},
    )


def _norm(weights: ClusterWeights) -> float:
    arrays = (weights.see_IH, weights.bias_H, weights.hear_DH, weights.send_HD, weights.readout_HO)
    return math.sqrt(sum(float((array**2).sum()) for array in arrays))


# ---------------------------------------------------------------------- what to try


@dataclass(frozen=True, slots=True)
class View:
    """All that a plan may look at."""

    net: FrozenNet
    signals: Signals
    config: EvolutionConfig
    number: int
    history: list[Event]

    def ranked(self) -> list[int]:
        """Cluster ids, largest gradient per neuron first."""
        return sorted(self.net.clusters, key=lambda c: (-self.signals.clusters.get(c, 0.0), c))

    def saliency(self, cluster: int) -> NDArray[np.float32]:
        """Per neuron, the size of its outgoing weights."""
        weights = self.net.clusters[cluster]
        outgoing = np.concatenate([weights.send_HD, weights.readout_HO], axis=1)
        return np.asarray(np.linalg.norm(outgoing, axis=1))


Plan = Callable[[View], list[Mutation]]


def prune_connections(view: View) -> list[Mutation]:
    """Every third event: the connections with the smallest gates, but no young ones."""
    gates = view.net.gates
    if view.number % 3 != 2 or len(gates) < MIN_CONNECTIONS:
        return []
    young = {
        tuple(target)
        for event in view.history
        if event.operator == "connect" and view.number - event.event < YOUNG
        for target in event.targets
    }
    old = [c for c in gates if (c.source, c.target) not in young]
    weakest = sorted(old, key=lambda c: (abs(gates[c]), c))
    return [Disconnect(c.source, c.target) for c in weakest[: int(PRUNED_SHARE * len(old))]]


def remove_cluster(view: View) -> list[Mutation]:
    """Every sixth event: the cluster that says least, by its readout and its messages."""
    if view.number % 6 != 4 or len(view.net.clusters) < 2:
        return []
    return [Remove(min(view.net.clusters, key=lambda c: (float(view.saliency(c).sum()), c)))]


def shrink_cluster(view: View) -> list[Mutation]:
    """Every sixth event: the weakest neurons of the cluster with the smallest gradient."""
    neurons, by_id = view.config.neurons, view.net.topology.by_id
    wide = [c for c in view.ranked() if by_id[c].width > 2 * neurons]
    if view.number % 6 != 1 or not wide:
        return []
    weakest = np.argsort(view.saliency(wide[-1]), kind="stable")[:neurons]
    return [Shrink(wide[-1], tuple(sorted(weakest.tolist())))]


def grow_clusters(view: View) -> list[Mutation]:
    """The clusters with the largest gradient per neuron, while the budget lasts."""
    topology, config = view.net.topology, view.config
    chosen: list[Mutation] = []
    for cluster in view.ranked():
        growth = Grow(cluster, config.neurons)
        if len(chosen) == config.grown:
            break
        if topology.cluster(cluster).width + config.neurons > config.max_width:
            continue
        grown = apply(topology, growth)
        if grown.parameters <= config.max_parameters:
            topology = grown
            chosen.append(growth)
    return chosen


def split_cluster(view: View) -> list[Mutation]:
    """Every second event: the cluster with the largest gradient, to the next level if it can."""
    topology, config = view.net.topology, view.config
    if view.number % 2:
        return []
    for cluster in view.ranked():
        deeper = Split(cluster, min(topology.cluster(cluster).level + 1, config.max_level))
        if apply(topology, deeper).parameters <= config.max_parameters:
            return [deeper]
    return []


def connect_clusters(view: View) -> list[Mutation]:
    """The absent connections that the gradient asks for most."""
    worth, present = view.signals.links, view.net.clusters
    absent = [
        c for c in worth if c not in view.net.gates and c.source in present and c.target in present
    ]
    best = sorted(absent, key=lambda c: (-worth[c], c))[: view.config.connections]
    return [Connect(c.source, c.target) for c in best]


PLANS: tuple[Plan, ...] = (
    prune_connections,
    remove_cluster,
    shrink_cluster,
    grow_clusters,
    split_cluster,
    connect_clusters,
)
