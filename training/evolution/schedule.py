"""An event of evolution, kind by kind: when each operator is tried, on what, and how many times.

What it is tried on is for a policy to rank (policies.py). Order matters, because the budgets are
one: what removes comes first, then receptive fields, whole levels, growth, splits and single
connections.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from luminanet.fields import TextField
from training.evolution.budget import affordable
from training.evolution.operators.base import Operator
from training.evolution.operators.clusters import Grow, Remove, Shrink, Split
from training.evolution.operators.connections import Connect, Disconnect
from training.evolution.operators.fields import AddField, SplitField
from training.evolution.policies import Policy, View

MIN_CONNECTIONS = 16
"""Fewer connections are not pruned."""

Plan = Callable[[View, Policy], Sequence[Operator]]
Kind = TypeVar("Kind", bound=Operator)


def _taken(view: View, wanted: Iterable[Kind], limit: int) -> list[Kind]:
    """The first `limit` mutations that the budgets allow, one on top of the other."""
    topology, taken = view.topology, list[Kind]()
    for mutation in wanted:
        if len(taken) == limit:
            break
        changed = mutation.apply(topology)
        if affordable(changed, view.config):
            topology = changed
            taken.append(mutation)
    return taken


def prune_connections(view: View, policy: Policy) -> Sequence[Operator]:
    """Every third event, later every one: the worst connections, but no young ones."""
    if (view.building and view.number % 3 != 2) or len(view.net.gates) < MIN_CONNECTIONS:
        return []
    weakest = policy.weakest(view)
    worst = weakest[: int(view.config.pruned * len(weakest))]
    return [Disconnect(c.source, c.target) for c in worst]


def remove_cluster(view: View, _policy: Policy) -> Sequence[Operator]:
    """Every sixth event: the cluster that says least, by its readout and its messages."""
    if view.number % 6 != 4 or len(view.net.clusters) < 2:
        return []
    return [Remove(min(view.net.clusters, key=lambda c: (float(view.saliency(c).sum()), c)))]


def shrink_cluster(view: View, policy: Policy) -> Sequence[Operator]:
    """Every sixth event: the weakest neurons of the worst cluster that can spare them."""
    neurons = view.config.neurons
    wide = [c for c in policy.clusters(view) if view.topology.cluster(c).width > 2 * neurons]
    if view.number % 6 != 1 or not wide:
        return []
    # Stable, so that equals (new neurons, all silent) fall in the same order on every machine.
    weakest = np.argsort(view.saliency(wide[-1]), kind="stable")[:neurons]
    return [Shrink(wide[-1], tuple(sorted(weakest.tolist())))]


def drop_field(view: View, policy: Policy) -> Sequence[Operator]:
    """The field that gives least for its cost, where fields may change: every second event, and
    whenever the budgets leave no room for a new one."""
    due = view.number % 2 == 1 or (view.building and not change_fields(view, policy))
    if not view.config.fields or not due:
        return []
    return list(policy.overlooked(view)[:1])


def change_fields(view: View, policy: Policy) -> Sequence[Operator]:
    """The best fields to add or refine: one a cluster, and no field twice, because what one
    cluster learns from it changes what is left to learn for others."""
    if not view.building or not view.config.fields:
        return []
    return _taken(view, _apart(policy.changes(view)), view.config.fields)


def _apart(changes: Iterable[AddField | SplitField]) -> Iterable[Operator]:
    clusters, fields = set[int](), set[TextField]()
    for change in changes:
        new = {field for _, field in change.brings()}
        if change.cluster not in clusters and not new & fields:
            clusters.add(change.cluster)
            fields |= new
            yield change


def connect_levels(view: View, policy: Policy) -> Sequence[Operator]:
    """The best level to connect at once, if that promises more per cost than the best single
    connection."""
    if not view.building or not view.config.buses:
        return []
    best = _taken(view, policy.buses(view), 1)
    single = policy.candidates(view)[:1] if view.config.connections else []
    for link, c in zip(best, single, strict=False):
        if policy.joined(view, link) < policy.joined(view, Connect(c.source, c.target)):
            return []
    return best


def grow_clusters(view: View, policy: Policy) -> Sequence[Operator]:
    """The best clusters that may still grow, while the budgets last."""
    config = view.config
    narrow = config.max_width - config.neurons  # the widest that can still take them
    if not view.building:
        return []
    wanted = (
        Grow(c, config.neurons)
        for c in policy.clusters(view)
        if view.topology.cluster(c).width <= narrow
    )
    return _taken(view, wanted, config.grown)


def split_cluster(view: View, policy: Policy) -> Sequence[Operator]:
    """Every second event: the best cluster, towards the next level while there is one."""
    if view.number % 2 or not view.building:
        return []
    deepest = view.config.max_level
    levels = {c.id: max(c.level, min(c.level + 1, deepest)) for c in view.topology.clusters}
    return _taken(view, (Split(c, levels[c]) for c in policy.clusters(view)), 1)


def connect_clusters(view: View, policy: Policy) -> Sequence[Operator]:
    """The best connections that are not there."""
    if not view.building:
        return []
    wanted = (Connect(c.source, c.target) for c in policy.candidates(view))
    return _taken(view, wanted, view.config.connections)


SCHEDULE: tuple[Plan, ...] = (
    prune_connections,
    remove_cluster,
    shrink_cluster,
    drop_field,
    change_fields,
    connect_levels,
    grow_clusters,
    split_cluster,
    connect_clusters,
)
