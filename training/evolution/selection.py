"""Selection in one event: overproduce, then prune by worth. A run starts with many narrow clusters;
a few wide ones are left, on what was worth seeing.

    prune    of each receptive field, the clusters that say least, until it has no more than its
             seats
    double   a field of more seats than clusters has its clusters split
    join     all levels hear each other, where whole levels may be connected (buses)
    widen    all grow to the largest width that the budgets allow

A field has seats in proportion to its worth (worth.py), and who has which worth, a policy says:

    worth    each field its own
    random   worths are dealt out by chance: the control that worth has to beat
    worst    the field that is missed least has the highest worth, and so on: the other end

so operators, times, budgets and how many fields and twins are left do not depend on the policy.
Source: overproduction and pruning of synapses (Changeux and Danchin, 1976); one pruning early in
training by a measured saliency, as in SNIP (Lee et al., 2019, arXiv 1810.02340).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from luminanet.errors import ConfigError
from training.evolution.budget import affordable
from training.evolution.operators.base import Operator
from training.evolution.operators.clusters import Grow, Remove, Split, new_id
from training.evolution.policies import View, open_buses
from training.evolution.worth import Choice, by_choice

Order = Callable[[Sequence[Choice], np.random.Generator], Sequence[Choice]]
"""Fields, the one that is missed most first -> who has the highest worth, the next, ..."""
ORDERS: Mapping[str, Order] = {
    "worth": lambda best, _rng: best,
    "random": lambda best, rng: [best[k] for k in rng.permutation(len(best))],
    "worst": lambda best, _rng: best[::-1],
}


def order(policy: str) -> Order:
    if policy not in ORDERS:
        raise ConfigError(f"policy {policy!r} is none of {sorted(ORDERS)}, which selections have")
    return ORDERS[policy]


def seats(view: View, order: Order) -> dict[Choice, int]:
    """How many clusters each field shall have, `selected` in all."""
    missed = {choice: max(0.0, worth) for choice, worth in view.signals.missed.items()}
    best = sorted(missed, key=lambda choice: -missed[choice])
    rng = np.random.default_rng([view.seed, view.number])
    ranked = zip(order(best, rng), best, strict=True)
    dealt = {choice: missed[own] for choice, own in ranked}
    return apportioned(dealt, view.config.selected)


def apportioned(worths: Mapping[Choice, float], count: int) -> dict[Choice, int]:
    """`count` seats in proportion to worths, by the highest averages (Webster, Sainte-Lague)."""
    given = dict.fromkeys(worths, 0)
    for _ in range(count):
        # Equals, such as worths of 0, take turns.
        next_one = min(given, key=lambda c: (-worths[c] / (2 * given[c] + 1), given[c]))
        given[next_one] += 1
    return given


# ---------------------------------------------------------------------- plans


def prune(view: View, order: Order) -> Sequence[Operator]:
    wanted = seats(view, order)
    loudest = {c: -float(view.saliency(c).sum()) for c in view.net.clusters}
    return [
        Remove(cluster)
        for choice, own in by_choice(view.topology).items()
        for cluster in sorted(own, key=lambda c: (loudest[c], c))[wanted[choice] :]
    ]


def double(view: View, order: Order) -> Sequence[Operator]:
    wanted, topology, made = seats(view, order), view.topology, list[Operator]()
    for choice, own in by_choice(view.topology).items():
        splits = dict.fromkeys(own, 0)
        for _ in range(wanted[choice] - len(own)):
            parent = min(splits, key=lambda c: (splits[c], c))
            split = Split(parent, topology.cluster(parent).level)
            splits[parent] = splits[new_id(topology)] = splits[parent] + 1
            topology = split.apply(topology)
            made.append(split)
    return made


def join(view: View, _order: Order) -> Sequence[Operator]:
    return open_buses(view) if view.config.buses else []


def widen(view: View, _order: Order) -> Sequence[Operator]:
    """Raises ConfigError when the clusters that are left do not even fit as they are."""
    topology, narrow = view.topology, min(c.width for c in view.topology.clusters)
    for width in range(max(narrow, view.config.max_width), narrow - 1, -1):
        grown = [replace(c, width=max(c.width, width)) for c in topology.clusters]
        if affordable(topology.having(grown, topology.connections), view.config):
            return [Grow(c.id, width - c.width) for c in topology.clusters if c.width < width]
    raise ConfigError(
        f"{len(topology.clusters)} clusters of {narrow} neurons, which the selection leaves, are "
        "over the budgets: start with narrower ones (--width)"
    )


SELECTION: Sequence[Callable[[View, Order], Sequence[Operator]]] = (prune, double, join, widen)
