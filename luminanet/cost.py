"""Topology -> multiply-accumulates of one forward: what evolution pays for a better loss.

Counts the visits that matter (visits.py), as the exported graph computes them: what a cluster
sees once, what it hears and says at every visit that needs it. Embedding look-ups are free.
"""

from luminanet.receptive import TextInput
from luminanet.topology import Cluster, Topology
from luminanet.visits import schedule, stages


def macs(topology: Topology) -> int:
    """Per image, or per token; equals the count from the exported graph."""
    by_id, channel = topology.by_id, topology.channel
    heard = schedule(topology)
    spoken = {source for sources in heard.values() for source in sources}
    total = sum(cluster_macs(topology, cluster) for cluster in topology.clusters)
    total += sum(by_id[v.cluster].width * channel for v, sources in heard.items() if sources)
    total += sum(by_id[v.cluster].width * channel for v in spoken)
    for visits in stages(topology).values():
        listening = [sources for sources in visits.values() if sources]
        total += len(listening) * len({s for sources in listening for s in sources}) * channel
    return total + _shared(topology)


def cluster_macs(topology: Topology, cluster: Cluster) -> int:
    """What a cluster costs alone: its view and its readout."""
    return cluster.width * (topology.inputs(cluster) + topology.readouts)


def _shared(topology: Topology) -> int:
    """Of text: output layer, echoes, habits, and pooling of intervals longer than one lag."""
    shape = topology.input
    if not isinstance(shape, TextInput):
        return 0
    pooling = len(topology.pooled) * topology.pooled_reach * shape.embedding
    echoing = shape.echoed * (len(shape.echoes) + topology.outputs)
    habits = shape.embedding * topology.outputs if shape.habits else 0
    return shape.vocab_size * topology.outputs + pooling + echoing + habits
