"""What clusters see, as nodes: every distinct field is one named tensor [B, I].

Shape legend: that of frozen.py, and B batch, W window, Y rows, X columns of pixels, L single lags
and recalls, N tokens as far back as a pooled interval reaches, P pooled intervals, R recalls.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from export.graph import Graph, Shape
from export.recall import Recalled, newest
from luminanet.frozen import Array, ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.receptive import ImageInput, Interval, Patch, Recall, TextField, TextInput, in_order
from luminanet.reference import field_indices, layer_norm
from luminanet.topology import Cluster

NEWEST = Interval(0, 1)


def of_raw_pixels(net: FrozenNet) -> FrozenNet:
    """The same image network with its normalisation folded into what clusters see."""
    head, shape = net.head, net.topology.input
    assert isinstance(head, ImageHead)
    assert isinstance(shape, ImageInput)
    area = shape.height * shape.width

    def folded(cluster: Cluster) -> ClusterWeights:
        weights = net.clusters[cluster.id]
        channel_I = field_indices(cluster, shape) // area
        see_IH = weights.see_IH / head.std_C.astype(np.float64)[channel_I, None]
        bias_H = weights.bias_H - head.mean_C.astype(np.float64)[channel_I] @ see_IH
        return replace(weights, see_IH=see_IH.astype(np.float32), bias_H=bias_H.astype(np.float32))

    clusters = {cluster.id: folded(cluster) for cluster in net.topology.clusters}
    nothing_C = np.zeros_like(head.mean_C)
    raw = replace(head, mean_C=nothing_C, std_C=nothing_C + 1)
    return replace(net, clusters=clusters, head=raw)


def image_fields(graph: Graph, shape: ImageInput, patches: Iterable[Patch]) -> dict[Patch, str]:
    """Adds the input `images` [B, C, Y, X] in 0..1; returns patch -> its pixels.

    Patches that tile the image are cut by one transposition, others by a slice each.
    """
    sizes: Shape = ["batch", shape.channels, shape.height, shape.width]
    images = graph.input("images", np.float32, sizes)
    distinct = sorted(set(patches))
    fields: dict[Patch, str] = {}
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
) -> dict[Patch, str]:
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
    fields = {patch: f"pixels/{_name(patch)}" for patch in tiling}
    graph.split(tiles, list(fields.values()))
    return fields


def _name(patch: Patch) -> str:
    channels = ",".join(map(str, patch.channels))
    return f"c{channels}y{patch.top}x{patch.left}:{patch.height}x{patch.width}"


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


def text_fields(
    graph: Graph,
    head: TextHead,
    shape: TextInput,
    wanted: Iterable[TextField],
    recalled: Recalled,
) -> dict[TextField, str]:
    """Field -> its (pooled) embedding [B, E], from the input `token_ids`.

    NEWEST is among them where the output layer is tied. Single lags and recalls are looked up
    alone, so that only true pooling costs multiplications.
    """
    table = graph.constant("embedding", embedding_table(head))
    distinct = set(wanted) | ({NEWEST} if head.output_VO is None else set())
    recalls = [f for f in in_order(distinct) if isinstance(f, Recall)]
    intervals = [f for f in in_order(distinct) if isinstance(f, Interval)]
    single = [i for i in intervals if i.stop - i.start == 1]
    fields: dict[TextField, str] = {}
    if single or recalls:
        ids = [_lagged(graph, shape, single)] if single else []
        ids += [recalled.tokens(recalls)] if recalls else []
        lags_BLE = graph.node("Gather", [table, graph.concat(ids, "seen/token_ids")], "lags")
        fields |= _split(graph, lags_BLE, [*single, *recalls])
    pooled = [i for i in intervals if i.stop - i.start > 1]
    if pooled:
        reach = max(interval.stop for interval in pooled)
        newest_BN = newest(graph, reach, shape, "pooled/token_ids")
        rows_BNE = graph.node("Gather", [table, newest_BN], "window")
        weights_PN = graph.constant("pooled/weights", pooling(pooled, reach))
        pooled_BPE = graph.node("MatMul", [weights_PN, rows_BNE], "pooled")
        fields |= _split(graph, pooled_BPE, pooled)
    return fields


def _lagged(graph: Graph, shape: TextInput, single: Sequence[Interval]) -> str:
    """[B, L]: the tokens at single lags."""
    positions = graph.constant("lags/at", np.array([shape.window - i.stop for i in single]))
    return graph.node("Gather", ["token_ids", positions], "lags/token_ids", axis=1)


def embedding_table(head: TextHead) -> Array:
    """[V + 1, E]: the normed embedding; the last row is nothing, because NO_TOKEN is -1."""
    table_VE = layer_norm(head.embed_VE, head.norm_in_scale_E, head.norm_in_bias_E)
    nothing_E = np.zeros((1, table_VE.shape[1]))
    return np.vstack([table_VE, nothing_E]).astype(np.float32)


def pooling(intervals: Sequence[Interval], reach: int) -> Array:
    """[P, N]: sum / sqrt(length) over each interval; lag 0 is the last position."""
    weights_PN = np.zeros((len(intervals), reach), np.float32)
    for row, interval in zip(weights_PN, intervals, strict=True):
        length = interval.stop - interval.start
        row[reach - interval.stop : reach - interval.start] = 1 / math.sqrt(length)
    return weights_PN


def _split(graph: Graph, rows: str, fields: Sequence[TextField]) -> dict[TextField, str]:
    """[B, n, E] -> one [B, E] for each of n fields."""
    named = {field: _field_name(field) for field in fields}
    graph.split(rows, list(named.values()))
    return named


def _field_name(field: TextField) -> str:
    if isinstance(field, Recall):
        return f"recalled{field.order}"
    return f"lags{field.start}-{field.stop - 1}"
