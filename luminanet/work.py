"""Topology -> what its exported graph makes a runtime do, without building the graph.

Counts the two forms of text networks that are fastest on a CPU (export/forms.py):

    bus      one product per cluster; the gates of a stage mix all messages that it hears
    shared   one batched product per level, narrow clusters filled up with zeros

A level that hears one shared set of sources is visited as a whole, and as often as it must: it
needs fewer visits, messages and gathers than the same number of scattered connections.
benchmarks/latency.py measures what each count costs.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import groupby

from luminanet.cost import macs
from luminanet.errors import TopologyError
from luminanet.receptive import Interval, Recall, TextField, TextInput
from luminanet.topology import Cluster, Topology
from luminanet.visits import Heard, Visit, stages

FORMS = ("bus", "shared")
NEWEST = Interval(0, 1)


@dataclass(frozen=True, slots=True)
class Work:
    """One call. `steps`: nodes on the longest path; multiply-accumulates of one row in products
    with one matrix, with a matrix per cluster (`batched`) and in sums over lags (`pooled`); numbers
    that are gathered for one row (`lookups`); `weights` that are read."""

    nodes: int = 0
    steps: int = 0
    macs: int = 0
    batched: int = 0
    pooled: int = 0
    lookups: int = 0
    weights: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """A topology and who is visited when."""

    topology: Topology
    stages: dict[str, Heard]
    spoken: set[Visit]
    last: set[Visit]

    def width(self, visit: Visit) -> int:
        return self.topology.cluster(visit.cluster).width


def work(topology: Topology) -> dict[str, Work]:
    """Of each of FORMS; raises TopologyError for an image network."""
    shape = topology.input
    if not isinstance(shape, TextInput):
        raise TopologyError("latency is predicted for text networks; count macs for images")
    plan = _planned(topology)
    seen = {field for c in topology.clusters for field in c.text_fields} | {NEWEST}
    pools, reach = len(topology.pooled), topology.pooled_reach
    rows = len(seen) - pools + reach
    pooled = pools * reach * shape.embedding
    echoed = shape.echoed * topology.echo_row
    alike = macs(topology) - pooled
    weights = _weights(plan, shape)
    pooling = 4 + (reach < shape.window) if pools else 0
    recalling, echoing = _recalling(seen, shape), _echoing(shape)

    def whole(form: Work) -> Work:
        return Work(
            nodes=form.nodes + 7 + pooling + recalling.nodes + echoing.nodes,
            steps=form.steps + 7 + recalling.steps + echoing.steps,
            macs=alike + form.macs - form.batched,
            batched=form.batched,
            pooled=pooled,
            lookups=(rows + bool(shape.habits)) * shape.embedding + echoed,
            weights=weights,
        )

    return {"bus": whole(_bus(plan)), "shared": whole(_shared(plan))}


def _recalling(seen: Set[TextField], shape: TextInput) -> Work:
    """Two nodes for the newest token, five for each before it, two a recall; then the tokens, once
    for clusters and once for echoes unless both want the same."""
    looked = tuple(sorted(field for field in seen if isinstance(field, Recall)))
    echoed = tuple(field for field in shape.echoes if isinstance(field, Recall))
    if not looked + echoed:
        return Work()
    distinct = {*looked, *echoed}
    nodes = 5 * max(recall.order for recall in distinct) - 3 + 2 * len(distinct)
    nodes += sum(3 + (len(wanted) > 1) for wanted in {looked, echoed} if wanted)
    if not looked:
        return Work(nodes)
    return Work(nodes + 1, 4 + (len(looked) > 1) + 2 * looked[-1].order)


def _echoing(shape: TextInput) -> Work:
    habits = Work(6 + shape.tied, 1 + shape.tied) if shape.habits else Work()
    if not shape.echoes:
        return habits
    reach, recalls = shape.echo_reach, any(isinstance(f, Recall) for f in shape.echoes)
    joined = (0 < reach < shape.window) + (reach > 0 and recalls)
    plus = shape.tied and not shape.habits
    return Work(11 + plus + joined + habits.nodes, 8 + plus + habits.steps)


def _planned(topology: Topology) -> _Plan:
    found = stages(topology)
    heard = {visit: sources for visits in found.values() for visit, sources in visits.items()}
    spoken = {source for sources in heard.values() for source in sources}
    return _Plan(topology, found, spoken, set({v.cluster: v for v in heard}.values()))


def _weights(plan: _Plan, shape: TextInput) -> int:
    """Of matrices that are multiplied with: those for messages only where there are any."""
    topology, total = plan.topology, shape.vocab_size * plan.topology.outputs
    speaking = {visit.cluster for visit in plan.spoken}
    for c in topology.clusters:
        total += c.width * (topology.inputs(c) + topology.readouts)
        total += c.width * topology.channel * ((c.id in speaking) + bool(topology.sources[c.id]))
    return total


def _bus(plan: _Plan) -> Work:
    clusters = plan.topology.clusters
    nodes = _products(clusters, is_cut=True) + len(plan.spoken) + (len(clusters) > 1)
    listening = 0
    for heard in plan.stages.values():
        targets = [sources for sources in heard.values() if sources]
        nodes += len(heard)
        if targets:
            nodes += 4 + (len(_heard(heard)) > 1) + len(targets)
            listening += 1
    return Work(nodes, 4 + 8 * listening)


def _shared(plan: _Plan) -> Work:
    """Its `macs` are only those of zeros that fill clusters up."""
    topology = plan.topology
    levels = {level: list(found) for level, found in groupby(topology.clusters, _level)}
    nodes, listening, batched, zeros, read = 0, 0, 0, 0, 0
    for clusters in levels.values():
        several = len({c.fields for c in clusters if c.fields}) > 1
        nodes += _products(clusters, is_cut=False) + several + (2 if len(clusters) > 1 else 1)
    for heard in plan.stages.values():
        visits = set(heard)
        level = levels[topology.cluster(min(visits).cluster).level]
        width = max(cluster.width for cluster in level)
        nodes += 1 + (len(visits) < len(level))
        speaking, ending = plan.spoken & visits, plan.last & visits
        products = [(speaking, 1 + (len(speaking) < len(visits)))]
        if any(heard.values()):
            sources = _heard(heard)
            spoken = sum(not sources.isdisjoint(stage) for stage in plan.stages.values())
            products.append((visits, 5 + (spoken > 1)))
            listening += 1
        for who, count in products:
            if who:
                nodes += count
                batched += len(who) * width * topology.channel
                zeros += topology.channel * sum(width - plan.width(visit) for visit in who)
        if ending:
            nodes += 2 + (len(ending) < len(visits))
            read += 1
            zeros += topology.readouts * sum(width - plan.width(visit) for visit in ending)
    return Work(nodes + (read > 1), 9 + 7 * listening, zeros, batched)


def _products(clusters: Sequence[Cluster], is_cut: bool) -> int:
    """Nodes of what clusters see: those that see the same share one product."""
    views = [cluster.fields for cluster in clusters if cluster.fields]
    distinct = set(views)
    cuts = sum(views.count(view) > 1 for view in distinct) if is_cut else 0
    blind = 3 * (len(views) < len(clusters))
    return len(distinct) + sum(len(view) > 1 for view in distinct) + cuts + blind


def _heard(heard: Heard) -> set[Visit]:
    return {source for sources in heard.values() for source in sources}


def _level(cluster: Cluster) -> int:
    return cluster.level
