"""What clusters see, as nodes: every distinct patch or interval is one named tensor [B, I].

Shape legend: that of frozen.py, and B batch, W window, Y rows, X columns of pixels, L single lags,
P pooled intervals.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from export.graph import Graph, Shape
from luminanet.frozen import Array, ImageHead, TextHead
from luminanet.reference import layer_norm
from luminanet.topology import ImageInput, Interval, Patch, TextInput

NEWEST = Interval(0, 1)


def image_fields(
    graph: Graph, head: ImageHead, shape: ImageInput, patches: Iterable[Patch]
) -> dict[Patch, str]:
    """Adds the input `images` [B, C, Y, X] in 0..1; returns patch -> normalised pixels."""
    sizes: Shape = ["batch", shape.channels, shape.height, shape.width]
    images = graph.input("images", np.float32, sizes)
    mean = graph.constant("pixels/mean", head.mean_C[:, None, None])
    std = graph.constant("pixels/std", head.std_C[:, None, None])
    centred = graph.node("Sub", [images, mean], "pixels/centred")
    pixels = graph.node("Div", [centred, std], "pixels")
    return {patch: _cut(graph, pixels, patch) for patch in sorted(set(patches))}


def _cut(graph: Graph, pixels: str, patch: Patch) -> str:
    """One patch, flattened: channel, then row, then column. Slices copy runs, not numbers."""
    channels = ",".join(map(str, patch.channels))
    name = f"pixels/c{channels}y{patch.top}x{patch.left}:{patch.height}x{patch.width}"
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
    graph: Graph, head: TextHead, shape: TextInput, intervals: Iterable[Interval]
) -> dict[Interval, str]:
    """Adds the input `token_ids` [B, W]; returns interval -> (pooled) embedding [B, E].

    NEWEST is always among them. Single lags are looked up alone, so that only true pooling costs
    multiplications.
    """
    token_ids = graph.input("token_ids", np.int64, ["batch", shape.window])
    table_VE = layer_norm(head.embed_VE, head.norm_in_scale_E, head.norm_in_bias_E)
    nothing_E = np.zeros((1, shape.embedding))  # the last row: NO_TOKEN is -1
    table = graph.constant("embedding", np.vstack([table_VE, nothing_E]).astype(np.float32))
    distinct = set(intervals) | {NEWEST}
    single = sorted(i for i in distinct if i.stop - i.start == 1)
    positions = graph.constant("lags/at", np.array([shape.window - i.stop for i in single]))
    ids_BL = graph.node("Gather", [token_ids, positions], "lags/token_ids", axis=1)
    lags_BLE = graph.node("Gather", [table, ids_BL], "lags")
    fields = _split(graph, lags_BLE, single)
    pooled = sorted(distinct - set(single))
    if pooled:
        window_BWE = graph.node("Gather", [table, token_ids], "window")
        weights_PW = graph.constant("pooled/weights", _pooling(pooled, shape.window))
        pooled_BPE = graph.node("MatMul", [weights_PW, window_BWE], "pooled")
        fields |= _split(graph, pooled_BPE, pooled)
    return fields


def _pooling(intervals: Sequence[Interval], window: int) -> Array:
    """[P, W]: sum / sqrt(length) over each interval; lag 0 is the last position."""
    weights_PW = np.zeros((len(intervals), window), np.float32)
    for row, interval in zip(weights_PW, intervals, strict=True):
        length = interval.stop - interval.start
        row[window - interval.stop : window - interval.start] = 1 / math.sqrt(length)
    return weights_PW


def _split(graph: Graph, rows: str, intervals: Sequence[Interval]) -> dict[Interval, str]:
    """[B, n, E] -> one [B, E] for each of n intervals."""
    fields = {i: f"lags{i.start}-{i.stop - 1}" for i in intervals}
    graph.split(rows, list(fields.values()))
    return fields
