"""Topology -> multiply-accumulates of one forward: what evolution pays for a better loss.

Counts the visits that matter (schedule.py), as the exported graph computes them: what a cluster
sees once, what it hears and says at every visit that needs it. Embedding look-ups are free; a
pixel that is added to a mean counts as one.
"""

from luminanet.fields import TextInput
from luminanet.schedule import Heard, planned, sources_of
from luminanet.topology import Cluster, Topology


def macs(topology: Topology) -> int:
    """Per image, or per token; equals the count from the exported graph."""
    plan = planned(topology)
    total = sum(cluster_macs(topology, cluster) for cluster in topology.clusters)
    total += plan.widths(plan.spoken) * topology.channel
    heard = sum(heard_macs(topology, heard) for heard in plan.stages.values())
    return total + heard + _shared(topology)


def heard_macs(topology: Topology, heard: Heard) -> int:
    """Of one stage: mixing what it hears, and hearing it."""
    listening = {visit: sources for visit, sources in heard.items() if sources}
    mixed = len(listening) * len(sources_of(listening))
    widths = sum(topology.cluster(visit.cluster).width for visit in listening)
    return topology.channel * (mixed + widths)


def cluster_macs(topology: Topology, cluster: Cluster) -> int:
    """What a cluster costs alone: its view and its readout."""
    return cluster.width * (topology.inputs(cluster) + topology.readouts)


def _shared(topology: Topology) -> int:
    """Of images: average pooling. Of text: output layer, echoes, habits, and pooling of intervals
    longer than one lag."""
    shape = topology.input
    if not isinstance(shape, TextInput):
        pooled = sum(scale > 1 for scale in topology.scales)
        return pooled * shape.channels * shape.height * shape.width
    pooling = len(topology.pooled) * topology.pooled_reach * shape.embedding
    echoing = shape.echoed * topology.readouts
    habits = shape.embedding * topology.outputs if shape.habits else 0
    return shape.vocab_size * topology.outputs + pooling + echoing + habits
