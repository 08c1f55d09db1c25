"""What clusters see of images, as nodes: what is seen together is one named tensor [B, I]. Means of
pixels (Patch.pool) are one AveragePool for each scale.

Shape legend: that of frozen.py, and B batch, Y rows, X columns of pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.graph.builder import Graph
from export.network.views import Seen, Views
from luminanet.fields import Field, ImageInput, Patch
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead
from luminanet.interface import IMAGES
from luminanet.topology import Cluster


def of_raw_pixels(net: FrozenNet) -> FrozenNet:
    """The same image network with its normalisation folded into what clusters see."""
    head = net.head
    assert isinstance(head, ImageHead)

    def folded(cluster: Cluster) -> ClusterWeights:
        weights = net.clusters[cluster.id]
        channel_I = _channels(cluster)
        see_IH = weights.see_IH / head.std_C.astype(np.float64)[channel_I, None]
        bias_H = weights.bias_H - head.mean_C.astype(np.float64)[channel_I] @ see_IH
        return replace(weights, see_IH=see_IH.astype(np.float32), bias_H=bias_H.astype(np.float32))

    clusters = {cluster.id: folded(cluster) for cluster in net.topology.clusters}
    nothing_C = np.zeros_like(head.mean_C)
    raw = replace(head, mean_C=nothing_C, std_C=nothing_C + 1)
    return replace(net, clusters=clusters, head=raw)


def image_views(graph: Graph, shape: ImageInput, views: Views) -> Seen:
    """What is seen together, from the input `images` [B, C, Y, X] in 0..1."""
    patches = sorted({field for view in views for field in view if isinstance(field, Patch)})
    fields: dict[Field, str] = {}
    for scale in sorted({patch.pool for patch in patches}):
        same = [patch for patch in patches if patch.pool == scale]
        level = replace(shape, height=shape.height // scale, width=shape.width // scale)
        fields |= _patches(graph, _means(graph, scale), level, same)
    return {v: graph.concat([fields[f] for f in v], name) for v, name in views.items()}


def _channels(cluster: Cluster) -> NDArray[np.int64]:
    """The colour channel of every pixel that a cluster sees."""
    nothing = np.zeros(0, np.int64)
    return np.concatenate(
        [nothing, *(np.repeat(p.channels, p.height * p.width) for p in cluster.patches)]
    )


def _means(graph: Graph, scale: int) -> str:
    """A level of the image pyramid: the means of squares of scale x scale pixels."""
    if scale == 1:
        return IMAGES
    square = (scale, scale)
    return graph.node(
        "AveragePool", [IMAGES], f"pixels/pool{scale}", kernel_shape=square, strides=square
    )


def _patches(
    graph: Graph, images: str, shape: ImageInput, distinct: Sequence[Patch]
) -> dict[Field, str]:
    """Patch -> its pixels, of patches of one scale. Those that tile the image are cut by one
    transposition, others by a slice each."""
    fields: dict[Field, str] = {}
    for tile in sorted({replace(patch, top=0, left=0) for patch in distinct}):
        tiling = _tiling(tile, shape)
        wanted = set(tiling).intersection(distinct)
        if len(wanted) > 2 and 2 * len(wanted) >= len(tiling):
            fields |= _tiles(graph, images, shape, tile, tiling)
    return fields | {p: _cut(graph, images, p) for p in distinct if p not in fields}


def _tiling(tile: Patch, shape: ImageInput) -> list[Patch]:
    """All patches of the grid that `tile` begins, row by row; none if it does not fit."""
    contiguous = range(tile.channels[0], tile.channels[0] + len(tile.channels))
    if shape.height % tile.height or shape.width % tile.width:
        return []
    if tile.channels != tuple(contiguous):
        return []
    return [
        replace(tile, top=top, left=left)
        for top in range(0, shape.height, tile.height)
        for left in range(0, shape.width, tile.width)
    ]


def _tiles(
    graph: Graph, images: str, shape: ImageInput, tile: Patch, tiling: Sequence[Patch]
) -> dict[Field, str]:
    name, count = f"pixels/tiles{_name(tile)}", len(tile.channels)
    if count < shape.channels:
        first = tile.channels[0]
        ends = [graph.constant(f"{name}/{i}", np.array([i])) for i in (first, first + count, 1)]
        images = graph.node("Slice", [images, *ends], f"{name}/channels")
    rows, columns = shape.height // tile.height, shape.width // tile.width
    grid = np.array([-1, count, rows, tile.height, columns, tile.width])
    cells = graph.node(
        "Reshape", [images, graph.constant(f"{name}/grid", grid)], f"{name}/grid_cells"
    )
    tiles = graph.node("Transpose", [cells], name, perm=(0, 2, 4, 1, 3, 5))
    fields: dict[Field, str] = {patch: f"pixels/{_name(patch)}" for patch in tiling}
    graph.split(tiles, list(fields.values()))
    return fields


def _name(patch: Patch) -> str:
    channels = ",".join(map(str, patch.channels))
    frame = f"c{channels}y{patch.top}x{patch.left}:{patch.height}x{patch.width}"
    return frame if patch.pool == 1 else f"pool{patch.pool}/{frame}"


def _cut(graph: Graph, pixels: str, patch: Patch) -> str:
    """One patch, flattened: channel, then row, then column. Slices copy runs, not numbers."""
    name = f"pixels/{_name(patch)}"
    low, high = min(patch.channels), max(patch.channels) + 1
    start = np.array([low, patch.top, patch.left])
    stop = np.array([high, patch.top + patch.height, patch.left + patch.width])
    ends = [graph.constant(f"{name}/start", start), graph.constant(f"{name}/stop", stop)]
    axes = graph.constant("pixels/axes", np.array([1, 2, 3]))
    cut = graph.node("Slice", [pixels, *ends, axes], f"{name}/cut")
    if patch.channels != tuple(range(low, high)):
        order = graph.constant(f"{name}/channels", np.array(patch.channels) - low)
        cut = graph.node("Gather", [cut, order], f"{name}/ordered", axis=1)
    return graph.node("Flatten", [cut], name, axis=1)
