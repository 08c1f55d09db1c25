"""Budgets and cost: what a network costs, in what its run pays with (EvolutionConfig.cost).

macs      multiply-accumulates of one forward (luminanet/cost/macs.py)
latency   predicted microseconds of a decoding step (luminanet/cost/latency.py), text only
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

from luminanet.cost.latency import latency_us
from luminanet.cost.macs import macs
from luminanet.errors import TopologyError
from luminanet.topology import Topology
from training.config import EvolutionConfig
from training.evolution.operators.base import Operator

PRICES: Mapping[str, Callable[[Topology], float]] = {"macs": macs, "latency": latency_us}
FREE = 1e-3
"""The least share of a network's cost that an addition is charged with."""


@lru_cache(maxsize=16)
def cost(topology: Topology, config: EvolutionConfig) -> float:
    """Every candidate of an event is compared with the same network, which is priced once."""
    return float(PRICES[config.cost](topology))


def added(topology: Topology, mutation: Operator, config: EvolutionConfig) -> float:
    """The share of the cost that a mutation adds, at least FREE."""
    before = cost(topology, config)
    return max(FREE, cost(mutation.apply(topology), config) / before - 1)


def saved(before: Topology, after: Topology, config: EvolutionConfig) -> float:
    """The share of the cost that a removal saves, at least 0."""
    return max(0.0, 1 - cost(after, config) / cost(before, config))


def affordable(topology: Topology, config: EvolutionConfig) -> bool:
    """Whether a topology keeps all budgets; a budget of 0 is none."""
    return (
        topology.parameters <= config.max_parameters
        and (not config.max_clusters or len(topology.clusters) <= config.max_clusters)
        and (not config.max_connections or len(topology.connections) <= config.max_connections)
        and (not config.max_macs or macs(topology) <= config.max_macs)
    )


def possible(topology: Topology, mutation: Operator) -> bool:
    """Whether a mutation can (still) be done."""
    try:
        mutation.apply(topology)
    except TopologyError:
        return False
    return True
