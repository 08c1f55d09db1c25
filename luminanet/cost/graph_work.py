"""Topology -> what its exported graph makes a runtime do, without building the graph.

Counts the forms of text networks that are fastest on a CPU (export/network/lowerings.py):

    bus      one product per cluster; the gates of a stage mix all messages that it hears
    shared   one batched product per level, narrow clusters filled up with zeros
    block    one product per level for what it sees, says and hears; clusters that hear the same
             sources share their gates

benchmarks/latency.py measures what each count costs.
"""

from collections.abc import Iterable

from luminanet.cost import lowerings
from luminanet.cost.macs import macs
from luminanet.cost.model import Work
from luminanet.errors import TopologyError
from luminanet.fields import NEWEST, Recall, TextInput, View, in_order, is_pooled, view_of
from luminanet.schedule import Plan, planned
from luminanet.topology import Topology

FORMS = ("bus", "shared", "block")


def work(topology: Topology) -> dict[str, Work]:
    """Of each of FORMS; raises TopologyError for an image network."""
    shape = topology.input
    if not isinstance(shape, TextInput):
        raise TopologyError("latency is predicted for text networks; count macs for images")
    plan = planned(topology)
    pooled = len(topology.pooled) * topology.pooled_reach * shape.embedding
    # All readouts in one product, a norm and the output layer: three nodes. `macs` counts pooling.
    ending = Work(3, 3, macs(topology) - pooled, pooled=pooled, weights=_weights(plan, shape))
    alike = _recalling(topology, shape) + _echoing(topology, shape) + ending

    def whole(views: Iterable[View], form: Work) -> Work:
        return alike + _seeing(topology, shape, views) + form

    own = {view_of(cluster.fields) for cluster in topology.clusters}
    return {
        "bus": whole(own, lowerings.bus(plan)),
        "shared": whole(own, lowerings.shared(plan)),
        "block": whole(topology.level_views.values(), lowerings.block(plan)),
    }


def _recalls(topology: Topology, shape: TextInput) -> set[Recall]:
    seen = {field for cluster in topology.clusters for field in cluster.text_fields}
    return {field for field in seen.union(shape.echoes) if isinstance(field, Recall)}


def _recalling(topology: Topology, shape: TextInput) -> Work:
    """Three nodes for the newest token, five for each before it, one for the last time that these
    were there, three for each time before; then the tokens."""
    recalls = _recalls(topology, shape)
    if not recalls:
        return Work()
    order, several = max(recall.order for recall in recalls), len(recalls) > 1
    times = {n: max(r.nth for r in recalls if r.order == n) for n in {r.order for r in recalls}}
    found = sum(3 * nth - 2 for nth in times.values())
    longest = max(2 * n + 3 * nth for n, nth in times.items())
    return Work(5 * order + 1 + found + several, longest + 1 + several)


def _seeing(topology: Topology, shape: TextInput, views: Iterable[View]) -> Work:
    """Look-ups for all views at once, sums over lags at once, and what a view has of both."""
    distinct = set(views).union({NEWEST} if shape.tied else ()) - {()}
    single = [[f for f in view if not is_pooled(f)] for view in distinct]
    pooled = [[f for f in view if is_pooled(f)] for view in distinct]
    looking, wanted = sum(map(bool, single)), {tuple(fields) for fields in pooled if fields}
    reach, is_cut = topology.pooled_reach, bool(wanted - {tuple(in_order(topology.pooled))})
    looked = 3 + (looking > 1) if looking else 0
    summed = 3 + (reach < shape.window) + is_cut if wanted else 0
    parts = [bool(s) + (len(p) if is_cut else bool(p)) for s, p in zip(single, pooled, strict=True)]
    joined = sum(count > 1 for count in parts)
    return Work(
        nodes=looked + summed + joined,
        steps=max(looked, summed) + bool(joined),
        lookups=(sum(map(len, single)) + reach) * shape.embedding,
    )


def _echoing(topology: Topology, shape: TextInput) -> Work:
    """Ten nodes for echoes, and one to choose their tokens unless it is all; six for habits."""
    nodes, steps, lookups = 0, 0, 0
    if shape.habits:
        nodes, steps, lookups = 6 + shape.tied, 1 + shape.tied, shape.embedding
    if shape.echoes:
        is_part = shape.echoed < shape.window + len(_recalls(topology, shape))
        plus = shape.tied and not shape.habits
        nodes, steps = nodes + 10 + plus + is_part, steps + 7 + plus
        lookups += shape.echoed * topology.readouts
    return Work(nodes, steps, lookups=lookups)


def _weights(plan: Plan, shape: TextInput) -> int:
    """Of matrices that are multiplied with: those for messages only where there are any."""
    topology, total = plan.topology, shape.vocab_size * plan.topology.outputs
    speaking = {visit.cluster for visit in plan.spoken}
    for c in topology.clusters:
        total += c.width * (topology.inputs(c) + topology.readouts)
        total += c.width * topology.channel * ((c.id in speaking) + bool(topology.sources[c.id]))
    return total
