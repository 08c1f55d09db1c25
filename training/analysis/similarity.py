"""Two FrozenNets -> how alike they are: measures that are 1 for a network and itself.

No measure looks at cluster ids. Clusters of two networks are the same *role* when they see the
same receptive field on the same level; clusters that share a role are counted, not told apart, so
nothing depends on which of them is matched with which.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from luminanet.fields import Field, Patch
from luminanet.frozen import FrozenNet
from luminanet.topology import Cluster, Topology
from training.analysis.anatomy import matrix, strengths

Role = str
Pair = tuple[Role, Role]
Key = TypeVar("Key", bound=Hashable)
RoleOf = Callable[[Cluster], Role]
QUANTILES = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Measure:
    """`chance`: what the same number of connections would give if they were drawn blindly."""

    name: str
    value: float
    meaning: str
    chance: float | None = None


def field_of(cluster: Cluster) -> Role:
    return "; ".join(sorted(map(_seen, cluster.fields)))


def _seen(field: Field) -> str:
    if isinstance(field, Patch):
        field = replace(field, channels=tuple(sorted(field.channels)))
    return str(field)


def role_of(cluster: Cluster) -> Role:
    return f"{field_of(cluster)} on level {cluster.level}"


def compare(a: FrozenNet, b: FrozenNet) -> tuple[Measure, ...]:
    """Every measure is symmetric and at most 1; only `hubs` can be negative."""
    s, t = a.topology, b.topology
    return (
        Measure(
            "receptive fields",
            jaccard(neurons(s, field_of), neurons(t, field_of)),
            "Jaccard of neurons per receptive field, whatever the level",
        ),
        Measure(
            "clusters",
            jaccard(neurons(s, role_of), neurons(t, role_of)),
            "Jaccard of neurons per role (receptive field and level)",
        ),
        _of_pairs("links of fields", s, t, field_of, "receptive fields, whatever the level"),
        _of_pairs("links of roles", s, t, role_of, "roles"),
        Measure(
            "strengths",
            jaccard(weighted(a, role_of), weighted(b, role_of)),
            "Jaccard of the summed strength |gate|/n per pair of roles",
        ),
        Measure(
            "hubs",
            pearson(heard_by(s), heard_by(t)),
            "correlation, over the roles of both, of how many clusters hear a role",
        ),
        Measure(
            "in-degrees",
            overlap(degrees(s, 1), degrees(t, 1), 1),
            "1 - earth mover's distance of the shares of the network that clusters hear",
        ),
        Measure(
            "out-degrees",
            overlap(degrees(s, 0), degrees(t, 0), 1),
            "1 - earth mover's distance of the shares of the network that hear clusters",
        ),
        Measure(
            "spectrum",
            overlap(spectrum(s), spectrum(t), 2),
            "1 - mean gap between the quantiles of the normalised Laplacian's eigenvalues, over 2",
        ),
    )


def _of_pairs(name: str, s: Topology, t: Topology, role: RoleOf, what: str) -> Measure:
    chance = (_by_chance(s, t, role) + _by_chance(t, s, role)) / 2
    meaning = f"Jaccard of connections per pair of {what}"
    return Measure(name, jaccard(pairs(s, role), pairs(t, role)), meaning, chance)


# ---------------------------------------------------------------------- what is compared


def neurons(topology: Topology, role: RoleOf) -> Counter[Role]:
    found: Counter[Role] = Counter()
    for cluster in topology.clusters:
        found[role(cluster)] += cluster.width
    return found


def pairs(topology: Topology, role: RoleOf) -> Counter[Pair]:
    """How many connections lead from one role to another."""
    roles = {c.id: role(c) for c in topology.clusters}
    return Counter((roles[c.source], roles[c.target]) for c in topology.connections)


def weighted(net: FrozenNet, role: RoleOf) -> dict[Pair, float]:
    """Like `pairs`, each connection with its strength; sums in an order free of ids."""
    roles = {c.id: role(c) for c in net.topology.clusters}
    found: dict[Pair, list[float]] = {}
    for connection, strength in strengths(net).items():
        pair = (roles[connection.source], roles[connection.target])
        found.setdefault(pair, []).append(strength)
    return {pair: math.fsum(values) for pair, values in found.items()}


def heard_by(topology: Topology) -> dict[Role, float]:
    found = dict.fromkeys(map(role_of, topology.clusters), 0.0)
    for (source, _), count in pairs(topology, role_of).items():
        found[source] += count
    return found


def degrees(topology: Topology, axis: int) -> NDArray[np.float64]:
    """Per cluster, as a share of the network: axis 1 what it hears, axis 0 who hears it."""
    share_N: NDArray[np.float64] = matrix(topology).sum(axis) / len(topology.clusters)
    return share_N


def spectrum(topology: Topology) -> NDArray[np.float64]:
    """Eigenvalues, 0 to 2, of I - D^-1/2 (A + A^T) D^-1/2; an unconnected cluster gives 0."""
    heard_NN = matrix(topology).astype(np.float64)
    both_NN = heard_NN + heard_NN.T
    degree_N = both_NN.sum(1)
    scale_N = np.divide(1, np.sqrt(degree_N), out=np.zeros_like(degree_N), where=degree_N > 0)
    laplacian_NN = np.diag(degree_N > 0) - scale_N[:, None] * both_NN * scale_N
    eigenvalues: NDArray[np.float64] = np.linalg.eigvalsh(laplacian_NN)
    return eigenvalues


# ---------------------------------------------------------------------- measures


def jaccard(a: Mapping[Key, float], b: Mapping[Key, float]) -> float:
    """Sum of minima over sum of maxima; two empty ones are the same."""
    keys = a.keys() | b.keys()
    shared = math.fsum(min(a.get(k, 0), b.get(k, 0)) for k in keys)
    either = math.fsum(max(a.get(k, 0), b.get(k, 0)) for k in keys)
    return shared / either if either else 1.0


def pearson(a: Mapping[Key, float], b: Mapping[Key, float]) -> float:
    """A role that is missing counts 0; without any variance only equals are correlated."""
    if a == b:
        return 1.0
    keys = a.keys() | b.keys()
    xs, ys = ([m.get(k, 0.0) for k in keys] for m in (a, b))
    x, y = (np.array(v) - math.fsum(v) / len(v) for v in (xs, ys))
    size = math.sqrt(math.fsum(x * x) * math.fsum(y * y))
    return math.fsum(x * y) / size if size else 0.0


def overlap(a: NDArray[np.float64], b: NDArray[np.float64], width: float) -> float:
    """1 - mean distance of the quantiles of two distributions on an interval of `width`."""
    gap = np.abs(np.quantile(a, QUANTILES) - np.quantile(b, QUANTILES)).mean()
    return 1.0 - float(gap) / width


def _by_chance(fixed: Topology, drawn: Topology, role: RoleOf) -> float:
    """Expected `jaccard(pairs)` when the connections of `drawn` are drawn anew among all places
    for one in it: per pair of roles their number is hypergeometric."""
    have, sizes = pairs(fixed, role), Counter(map(role, drawn.clusters))
    places, count = len(drawn.clusters) ** 2, len(drawn.connections)
    shared = math.fsum(
        _at_most(limit, sizes[s] * sizes[t], places, count) for (s, t), limit in have.items()
    )
    either = len(fixed.connections) + count - shared
    return shared / either if either else 1.0


def _at_most(limit: int, room: int, places: int, drawn: int) -> float:
    """E[min(limit, X)], X of `drawn` places without replacement falling into `room` of them."""
    least, most = max(1, drawn - (places - room)), min(room, drawn)
    ways = _log_ways(places, drawn)
    return math.fsum(
        min(limit, k) * math.exp(_log_ways(room, k) + _log_ways(places - room, drawn - k) - ways)
        for k in range(least, most + 1)
    )


def _log_ways(of: int, choose: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(choose + 1) - math.lgamma(of - choose + 1)
