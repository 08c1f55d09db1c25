"""Topology -> FrozenNet with seeded random weights: where a run starts."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from luminanet.frozen import Array, ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.receptive import TextInput
from luminanet.topology import Cluster, Topology

READOUT_SCALE = 0.3
EMBEDDING_SCALE = 0.02


def initial_net(
    topology: Topology, seed: int, pixels_NCYX: NDArray[np.uint8] | None = None
) -> FrozenNet:
    """Normal weights of variance 1 / inputs; connections that are there start with gate 1, echoes
    silent.

    `pixels_NCYX`: training images, for the normalisation of an image network.
    """
    rng = np.random.default_rng(seed)
    return FrozenNet(
        topology=topology,
        clusters={c.id: _cluster(topology, c, rng) for c in topology.clusters},
        gates=dict.fromkeys(topology.connections, 1.0),
        head=_head(topology, rng, pixels_NCYX),
    )


def _normal(rng: np.random.Generator, inputs: int, outputs: int, scale: float = 1.0) -> Array:
    deviation = scale / np.sqrt(max(1, inputs))
    return np.asarray(rng.standard_normal((inputs, outputs)) * deviation, np.float32)


def _cluster(topology: Topology, cluster: Cluster, rng: np.random.Generator) -> ClusterWeights:
    return ClusterWeights(
        see_IH=_normal(rng, topology.inputs(cluster), cluster.width),
        bias_H=np.zeros(cluster.width, np.float32),
        hear_DH=_normal(rng, topology.channel, cluster.width),
        send_HD=_normal(rng, cluster.width, topology.channel),
        readout_HO=np.pad(
            _normal(rng, cluster.width, topology.outputs, READOUT_SCALE),
            ((0, 0), (0, topology.readouts - topology.outputs)),
        ),
    )


def _head(
    topology: Topology, rng: np.random.Generator, pixels_NCYX: NDArray[np.uint8] | None
) -> ImageHead | TextHead:
    if isinstance(topology.input, TextInput):
        vocab, width = topology.input.vocab_size, topology.input.embedding
        tables = [
            (rng.standard_normal((vocab, size)) * EMBEDDING_SCALE).astype(np.float32)
            for size in ([width] if topology.input.tied else [width, topology.outputs])
        ]
        norms = [
            make(size, np.float32)
            for size in (width, topology.outputs)
            for make in (np.ones, np.zeros)
        ]
        output = tables[1] if len(tables) > 1 else None
        echoes = len(topology.input.echoes)
        salience = np.zeros((vocab, echoes), np.float32) if echoes else None
        scale_in, bias_in, scale_out, bias_out = norms
        found = TextHead(tables[0], scale_in, bias_in, scale_out, bias_out, output, salience)
        if not topology.input.habits:
            return found
        habits = rng.standard_normal((topology.input.habits, width)) * EMBEDDING_SCALE
        spoken = _normal(rng, width, topology.outputs)
        return replace(found, habit_PE=habits.astype(np.float32), habit_EO=spoken)
    bias = np.zeros(topology.outputs, np.float32)
    channels = topology.input.channels
    if pixels_NCYX is None:
        return ImageHead(np.zeros(channels, np.float32), np.ones(channels, np.float32), bias)
    return ImageHead(*channel_statistics(pixels_NCYX), bias)


def channel_statistics(pixels_NCYX: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Mean and deviation of each channel, of pixels in 0..1."""
    axes = (0, 2, 3)
    mean_C, std_C = pixels_NCYX.mean(axes), pixels_NCYX.std(axes)
    return (mean_C / 255).astype(np.float32), (std_C / 255).astype(np.float32)
