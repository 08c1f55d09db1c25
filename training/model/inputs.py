"""What the clusters of a network see, for training: images and texts -> inputs of every group.

Shape legend: K clusters of a group, B batch (images, or sequences x positions), T tokens, and the
legend of frozen.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.fields import ImageInput, Interval, Recall, TextField, TextInput, in_order
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
    """Images [B, C, Y, X] -> per group the normalised pixels its clusters see, [K, B, I]."""

    mean: Tensor
    std: Tensor

    def __init__(self, topology: Topology, head: ImageHead, groups: tuple[Group, ...]) -> None:
        super().__init__()
        shape = topology.input
        assert isinstance(shape, ImageInput)
        self.register_buffer("mean", torch.from_numpy(head.mean_C)[:, None, None])
        self.register_buffer("std", torch.from_numpy(head.std_C)[:, None, None])
        self.shapes = [(len(g.clusters), g.inputs) for g in groups]
        for g, group in enumerate(groups):
            indices = np.stack([field_indices(c, shape) for c in group.clusters])
            self.register_buffer(f"indices_{g}", torch.from_numpy(indices.reshape(-1)))

    def forward(self, images: Tensor) -> list[Tensor]:
        pixels = ((images - self.mean) / self.std).flatten(1).t()
        if torch.is_autocast_enabled(images.device.type):
            pixels = pixels.to(torch.get_autocast_dtype(images.device.type))
        pixels = pixels.contiguous()
        return [
            pixels[self.get_buffer(f"indices_{g}")].view(k, i, len(images)).transpose(1, 2)
            for g, (k, i) in enumerate(self.shapes)
        ]


class TextFields(nn.Module):
    """Tokens [B, T] and their embeddings [B, T, E] -> per group what its clusters see of them,
    [K, B * T, I]."""

    def __init__(self, topology: Topology, groups: tuple[Group, ...]) -> None:
        super().__init__()
        assert isinstance(topology.input, TextInput)
        self.window = topology.input.window
        self.fields = [[c.text_fields for c in group.clusters] for group in groups]

    def forward(self, tokens_BT: Tensor, embedded_BTE: Tensor) -> list[Tensor]:
        distinct = {field for group in self.fields for own in group for field in own}
        found = self.look(tokens_BT, embedded_BTE, distinct)
        nothing = embedded_BTE.new_zeros(embedded_BTE[..., 0].numel(), 0)
        return [
            torch.stack([torch.cat([nothing, *(found[i] for i in fields)], 1) for fields in group])
            for group in self.fields
        ]

    def look(
        self, tokens_BT: Tensor, embedded_BTE: Tensor, fields: Iterable[TextField]
    ) -> dict[TextField, Tensor]:
        """Every field as it is seen from all positions, [B * T, E]."""
        length = embedded_BTE.shape[1]
        wanted = in_order(fields)
        if orders := max((f.order for f in wanted if isinstance(f, Recall)), default=0):
            followers = followers_of(tokens_BT, orders, self.window)
            after_nothing = F.pad(embedded_BTE, (0, 0, 1, 0))
        padded = F.pad(embedded_BTE, (0, 0, self.window, 0))
        if any(isinstance(f, Interval) and f.stop - f.start > 1 for f in wanted):
            totals = F.pad(padded.float().cumsum(1), (0, 0, 1, 0))

        def pooled(interval: Interval) -> Tensor:
            """padded[:, window + t] is the token at t, lag 0."""
            size = interval.stop - interval.start
            low, high = self.window + 1 - interval.stop, self.window + 1 - interval.start
            if size == 1:
                view = padded[:, high - 1 : high - 1 + length]
            else:
                total = totals[:, high : high + length] - totals[:, low : low + length]
                view = total / size**0.5
            return view.flatten(0, 1).to(embedded_BTE.dtype)

        def recalled(order: int) -> Tensor:
            at_BTE = followers[order - 1][..., None].expand_as(embedded_BTE)
            return after_nothing.gather(1, at_BTE).flatten(0, 1)

        return {f: pooled(f) if isinstance(f, Interval) else recalled(f.order) for f in wanted}


def followers_of(tokens_BT: Tensor, orders: int, window: int) -> list[Tensor]:
    """For 1 to `orders` tokens: where they, the newest at every position, stood before in the
    window ending there. [B, T]: 1 + the position after them, the last such; 0 if they did not."""
    at_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    back_TT = at_T[:, None] - at_T
    alike_BTT = tokens_BT[:, :, None] == tokens_BT[:, None]
    equal_BTT, found = alike_BTT, list[Tensor]()
    for order in range(1, orders + 1):
        if order > 1:
            alike_BTT = F.pad(alike_BTT[:, :-1, :-1], (1, 0, 1, 0))
            equal_BTT = equal_BTT & alike_BTT
        inside_TT = (back_TT > 0) & (back_TT <= window - order)
        found.append(torch.where(equal_BTT & inside_TT, at_T + 2, 0).amax(2))
    return found
