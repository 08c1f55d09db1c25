"""Whitened pixels: the coordinates in which the input layer of an image network learns.

Neighbouring pixels are nearly equal, so a patch varies a hundred times more along some directions
than along others, and AdamW learns fine detail late. So a run's `see` weights stand behind a fixed
matrix that gives every direction about the same variance (as ZCA does before the networks without
convolution of Lin, Memisevic, Konda, 2015, arXiv 1511.02580). It is linear: `fold` multiplies it
into the weights at the end, and a checkpoint knows nothing of it.
Shape legend: I inputs of a cluster, H its width, K clusters of a group, B images.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from luminanet.fields import Patch
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead
from luminanet.topology import Cluster
from training.data.batches import scale
from training.model.inputs import ImageFields, groups_of
from training.model.network import Whitening

IMAGES = 4000
"""So many of the first training images are measured."""


def whitening(net: FrozenNet, pixels_NCYX: Tensor, floor: float) -> Whitening:
    """E / sqrt(variance + floor) for the eigenvectors E of the covariance of normalised pixels, of
    all clusters that see the same shape at the same scale together.

    `pixels_NCYX` are bytes; `floor` is in units of the variance of a normalised pixel, which is 1:
    directions that vary less stay small, since they are mostly noise.
    """
    assert isinstance(net.head, ImageHead)
    groups = groups_of(net.topology)
    seen = ImageFields(net.topology, net.head, groups)(scale(pixels_NCYX[:IMAGES]))
    alike: dict[tuple[Patch, ...], list[Tensor]] = {}
    for group, pixels_KBI in zip(groups, seen, strict=True):
        for cluster, pixels_BI in zip(group.clusters, pixels_KBI, strict=True):
            if cluster.kernels:
                alike.setdefault(cluster.kernels, []).append(pixels_BI)
    return {kernels: _whitened(torch.cat(same), floor) for kernels, same in alike.items()}


def _whitened(pixels_NI: Tensor, floor: float) -> Tensor:
    variances, vectors = torch.linalg.eigh(torch.cov(pixels_NI.double().T))
    white_II: Tensor = vectors * (variances.clamp(min=0) + floor).rsqrt()
    return white_II.float()


def fold(net: FrozenNet, white: Whitening) -> FrozenNet:
    """The same network on plain pixels."""

    def folded(cluster: Cluster) -> ClusterWeights:
        weights, matrix = net.clusters[cluster.id], white.get(cluster.kernels)
        if matrix is None:
            return weights
        see_IH = matrix.double().numpy() @ weights.see_IH
        return replace(weights, see_IH=see_IH.astype(np.float32))

    return replace(net, clusters={c.id: folded(c) for c in net.topology.clusters})
