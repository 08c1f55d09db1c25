"""What each form makes a runtime do between what clusters see and what is read out.

A level that hears one shared set of sources is visited as a whole, and as often as it must: it
needs fewer visits, messages and gathers than the same number of scattered connections. Of
multiply-accumulates, the counts are those in batched products, and in others those beyond what
luminanet.cost.macs counts (fewer than none where products are batched). The forms are in export/.
"""

from collections.abc import Sequence
from itertools import groupby

from luminanet.cost.macs import heard_macs
from luminanet.cost.model import Work
from luminanet.fields import view_of
from luminanet.schedule import Heard, Plan, sources_of
from luminanet.topology import Cluster

NODE = 4_096
"""Multiply-accumulates that take as long as one more node (latency.json, batch 1)."""


def bus(plan: Plan) -> Work:
    clusters = plan.topology.clusters
    nodes = _products(clusters, is_cut=True) + len(plan.spoken) + (len(clusters) > 1)
    listening = 0
    for heard in plan.stages.values():
        targets = [sources for sources in heard.values() if sources]
        nodes += len(heard)
        if targets:
            nodes += 4 + (len(sources_of(heard)) > 1) + len(targets)
            listening += 1
    return Work(nodes, 3 + 8 * listening)


def shared(plan: Plan) -> Work:
    topology = plan.topology
    levels = {level: list(found) for level, found in groupby(topology.clusters, _level)}
    nodes, listening, batched, zeros, read = 0, 0, 0, 0, 0
    for clusters in levels.values():
        several = len({view_of(c.fields) for c in clusters if c.fields}) > 1
        nodes += _products(clusters, is_cut=False) + several + (2 if len(clusters) > 1 else 1)
    for heard in plan.stages.values():
        visits = set(heard)
        level = levels[topology.cluster(min(visits).cluster).level]
        width = max(cluster.width for cluster in level)
        nodes += 1 + (len(visits) < len(level))
        speaking, ending = plan.spoken & visits, plan.last & visits
        products = [(speaking, 1 + (len(speaking) < len(visits)))]
        if any(heard.values()):
            products.append((visits, 5 + (len(plan.heard_stages(heard)) > 1)))
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
    return Work(nodes + (read > 1), 8 + 7 * listening, zeros - batched, batched)


def block(plan: Plan) -> Work:
    topology, channel = plan.topology, plan.topology.channel
    nodes, steps, read, more = 0, 2, 0, 0
    for level, found in groupby(topology.clusters, _level):
        clusters, view = list(found), topology.level_views[level]
        nodes += 1 if view else 3 + len(clusters)
        seen = sum(map(topology.input.inputs, view))
        more += sum(cluster.width * (seen - topology.inputs(cluster)) for cluster in clusters)
        parts = [heard for heard in plan.stages.values() if _is_part(heard, clusters)]
        nodes += bool(parts) + sum(len(heard) > 1 for heard in parts)
    for heard in plan.stages.values():
        nodes += 1
        if plan.last.intersection(heard):
            read += 1
            more += topology.readouts * sum(plan.width(v) for v in heard if v not in plan.last)
        if any(heard.values()):
            spoken = plan.heard_stages(heard)
            said = sum(plan.widths(plan.stages[stage]) for stage in spoken)
            hearing = plan.widths(heard)
            channels = len(set(heard.values())) * channel
            is_summed = worth_summing(channels, said, hearing)
            more += channels * (said + hearing) if is_summed else said * hearing
            more -= heard_macs(topology, heard)
            nodes += 1 + is_summed + (len(spoken) > 1)
            steps += 2 + is_summed + (len(spoken) > 1)
    more -= channel * plan.widths(plan.spoken)
    return Work(nodes + (read > 1), steps + (read > 1), more)


def worth_summing(channels: int, said: int, hearing: int) -> bool:
    """Whether a stage had better form the sums of messages first, `channels` numbers in all, than
    multiply all that is `said` by one matrix: that is a node less."""
    return channels * (said + hearing) + NODE < said * hearing


def _is_part(heard: Heard, clusters: Sequence[Cluster]) -> bool:
    """Whether a stage visits some of the clusters of a level, and not all."""
    visited = {visit.cluster for visit in heard}
    return visited < {cluster.id for cluster in clusters}


def _products(clusters: Sequence[Cluster], is_cut: bool) -> int:
    """Products of what clusters see: those that see the same share one."""
    views = [view_of(cluster.fields) for cluster in clusters if cluster.fields]
    distinct = set(views)
    cuts = sum(views.count(view) > 1 for view in distinct) if is_cut else 0
    return len(distinct) + cuts + 3 * (len(views) < len(clusters))


def _level(cluster: Cluster) -> int:
    return cluster.level
