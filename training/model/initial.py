"""Topology -> FrozenNet with seeded random weights: where a run starts."""

import numpy as np
from numpy.typing import NDArray

from luminanet.fields import TextInput
from luminanet.frozen import Array, ClusterWeights, FrozenNet, ImageHead, TextHead
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
        return _text_head(topology.input, topology.outputs, rng)
    bias = np.zeros(topology.outputs, np.float32)
    channels = topology.input.channels
    if pixels_NCYX is None:
        return ImageHead(np.zeros(channels, np.float32), np.ones(channels, np.float32), bias)
    return ImageHead(*channel_statistics(pixels_NCYX), bias)


def _text_head(shape: TextInput, outputs: int, rng: np.random.Generator) -> TextHead:
    def table(rows: int, width: int) -> Array:
        return (rng.standard_normal((rows, width)) * EMBEDDING_SCALE).astype(np.float32)

    vocab, width, echoes = shape.vocab_size, shape.embedding, len(shape.echoes)
    return TextHead(
        embed_VE=table(vocab, width),
        norm_in_scale_E=np.ones(width, np.float32),
        norm_in_bias_E=np.zeros(width, np.float32),
        norm_out_scale_O=np.ones(outputs, np.float32),
        norm_out_bias_O=np.zeros(outputs, np.float32),
        output_VO=None if shape.tied else table(vocab, outputs),
        salience_VF=np.zeros((vocab, echoes), np.float32) if echoes else None,
        habit_PE=table(shape.habits, width) if shape.habits else None,
        habit_EO=_normal(rng, width, outputs) if shape.habits else None,
    )


def channel_statistics(pixels_NCYX: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Mean and deviation of each channel, of pixels in 0..1; 1 where all pixels are the same."""
    axes = (0, 2, 3)
    mean_C, std_C = pixels_NCYX.mean(axes), pixels_NCYX.std(axes)
    std_C = np.where(std_C > 0, std_C, 255)
    return (mean_C / 255).astype(np.float32), (std_C / 255).astype(np.float32)
