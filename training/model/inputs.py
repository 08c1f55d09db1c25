"""Groups of clusters, and what they see of images (of texts: text_inputs.py), for training.

Shape legend: K clusters of a group, B batch (images, or sequences x positions), and the legend of
frozen.py.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.fields import ImageInput
from luminanet.frozen import ImageHead
from luminanet.reference import field_indices
from luminanet.topology import Cluster, Topology


@dataclass(frozen=True, slots=True)
class Group:
    """Clusters of one level with equal inputs and width, at positions first .. last-1."""

    level: int
    clusters: tuple[Cluster, ...]
    inputs: int
    first: int
    below: int
    """How many clusters lie on lower levels: positions 0 .. below-1."""

    @property
    def last(self) -> int:
        return self.first + len(self.clusters)


def groups_of(topology: Topology) -> tuple[Group, ...]:
    def shape(cluster: Cluster) -> tuple[int, int, int]:
        return cluster.level, topology.inputs(cluster), cluster.width

    groups: list[Group] = []
    for (level, inputs, _), members in groupby(sorted(topology.clusters, key=shape), shape):
        first = groups[-1].last if groups else 0
        below = sum(c.level < level for c in topology.clusters)
        groups.append(Group(level, tuple(members), inputs, first, below))
    return tuple(groups)


class ImageFields(nn.Module):
    """Images [B, C, Y, X] -> per group the normalised pixels its clusters see, [K, B, I]: those of
    the image, and means of them (Patch.pool)."""

    mean: Tensor
    std: Tensor

    def __init__(self, topology: Topology, head: ImageHead, groups: tuple[Group, ...]) -> None:
        super().__init__()
        shape = topology.input
        assert isinstance(shape, ImageInput)
        self.register_buffer("mean", torch.from_numpy(head.mean_C)[:, None, None])
        self.register_buffer("std", torch.from_numpy(head.std_C)[:, None, None])
        self.shapes = [(len(g.clusters), g.inputs) for g in groups]
        self.scales = topology.scales
        for g, group in enumerate(groups):
            indices = np.stack([field_indices(c, shape, self.scales) for c in group.clusters])
            self.register_buffer(f"indices_{g}", torch.from_numpy(indices.reshape(-1)))

    def forward(self, images: Tensor) -> list[Tensor]:
        plain = (images - self.mean) / self.std
        levels = [plain if scale == 1 else F.avg_pool2d(plain, scale) for scale in self.scales]
        pixels = torch.cat([level.flatten(1) for level in levels], 1).t()
        if torch.is_autocast_enabled(images.device.type):
            pixels = pixels.to(torch.get_autocast_dtype(images.device.type))
        pixels = pixels.contiguous()
        return [
            pixels[self.get_buffer(f"indices_{g}")].view(k, i, len(images)).transpose(1, 2)
            for g, (k, i) in enumerate(self.shapes)
        ]
