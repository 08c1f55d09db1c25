"""What clusters see, as nodes: what is seen together is one named tensor [B, I].

Shape legend: that of frozen.py, and B batch, W window, Y rows, X columns of pixels, L single lags
and recalls, N tokens as far back as a pooled interval reaches, P pooled intervals, R recalls.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from export.graph.builder import Graph
from export.network.recall import FAR, Recalled, columns
from export.network.views import Seen, Views
from luminanet.fields import Field, ImageInput, Interval, Patch, TextInput, View, is_pooled
from luminanet.frozen import Array, ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.interface import IMAGES
from luminanet.reference import field_indices, layer_norm
from luminanet.topology import Cluster


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


def image_views(graph: Graph, shape: ImageInput, views: Views) -> Seen:
    """What is seen together, from the input `images` [B, C, Y, X] in 0..1."""
    patches = (field for view in views for field in view if isinstance(field, Patch))
    fields = _patches(graph, IMAGES, shape, sorted(set(patches)))
    return {v: graph.concat([fields[f] for f in v], name) for v, name in views.items()}


def _patches(
    graph: Graph, images: str, shape: ImageInput, distinct: Sequence[Patch]
) -> dict[Field, str]:
    """Patch -> its pixels. Patches that tile the image are cut by one transposition, others by a
    slice each."""
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


def text_views(
    graph: Graph, head: TextHead, shape: TextInput, views: Views, recalled: Recalled
) -> Seen:
    """What is seen together, from the input `token_ids`.

    Single lags and recalls are looked up for all views at once, and alone, so that only true
    pooling costs multiplications.
    """
    if not views:
        return {}
    table = graph.constant("embedding", embedding_table(head))
    parts = _looked_up(graph, table, shape, views, recalled)
    for view, found in _pooled(graph, table, shape, views).items():
        parts[view] += found
    return {view: graph.concat(parts[view], name) for view, name in views.items()}


def _looked_up(
    graph: Graph, table: str, shape: TextInput, views: Views, recalled: Recalled
) -> dict[View, list[str]]:
    """The single lags and recalls of every view as one tensor, if it has some."""
    places = {view: [recalled.place(f) for f in view if not is_pooled(f)] for view in views}
    looking = [view for view in views if places[view]]
    parts: dict[View, list[str]] = {view: [] for view in views}
    if not looking:
        return parts
    ids_BL = recalled.tokens([p for view in looking for p in places[view]], "seen/token_ids")
    rows_BLE = graph.node("Gather", [table, ids_BL], "seen/rows")
    flat = graph.node("Flatten", [rows_BLE], "seen", axis=1)
    names = [f"{views[view]}/single" for view in looking]
    sizes = [len(places[view]) * shape.embedding for view in looking]
    cut = graph.cut(flat, names, sizes)
    return parts | {view: [part] for view, part in zip(looking, cut, strict=True)}


def _pooled(graph: Graph, table: str, shape: TextInput, views: Views) -> dict[View, list[str]]:
    """The sums over lags of every view: one tensor if all want the same, else one a field."""
    wanted = {view: [f for f in view if is_pooled(f)] for view in views}
    wanted = {view: found for view, found in wanted.items() if found}
    intervals = sorted({interval for found in wanted.values() for interval in found})
    if not intervals:
        return {}
    reach = max(interval.stop for interval in intervals)
    newest_BN = "token_ids"
    if reach < shape.window:
        newest_BN = columns(graph, newest_BN, -reach, FAR, "pooled/token_ids")
    rows_BNE = graph.node("Gather", [table, newest_BN], "pooled/rows")
    weights_PN = graph.constant("pooled/weights", pooling(intervals, reach))
    sums_BPE = graph.node("MatMul", [weights_PN, rows_BNE], "pooled/sums")
    flat = graph.node("Flatten", [sums_BPE], "pooled", axis=1)
    if all(found == intervals for found in wanted.values()):
        return {view: [flat] for view in wanted}
    names = [f"lags{i.start}-{i.stop - 1}" for i in intervals]
    cut = graph.cut(flat, names, [shape.embedding] * len(intervals))
    tensors = dict(zip(intervals, cut, strict=True))
    return {view: [tensors[i] for i in found] for view, found in wanted.items()}


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
