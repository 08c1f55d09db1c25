"""The oracle: a slow, obvious numpy two-pass forward in float64.

Torch, ONNX and every later backend are tested against this file. Shape legend: B batch,
W window, N fields, and the legend of frozen.py.

Source: arXiv 2601.19508. Received signal s_i = (1/n) * sum_j g_ij * message_j with n = |N_i|,
all incoming connections of i in both passes. Pass 1 visits the clusters in order and hears
feedforward links only; pass 2 visits them again: feedforward links carry the message of pass 2,
feedback and recurrent links the latest there is, that of pass 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.fields import ImageInput, Interval, LagField, Lags, Patch, TextField, TextInput
from luminanet.frozen import (
    HASH,
    SALIENCE_RATE,
    SALIENCE_START,
    FrozenNet,
    ImageHead,
    TextHead,
)
from luminanet.topology import Activation, Cluster, Connection, Kind

Array = NDArray[np.float64]
NO_TOKEN = -1
"""The token id of a window position before the text begins; its embedding is zero."""
NORM_EPSILON = 1e-5


def forward(net: FrozenNet, inputs: NDArray[Any]) -> Array:
    """Logits of a batch.

    Images: float [B, C, height, width] in 0..1 -> [B, classes].
    Text: int [B, W], newest token last, NO_TOKEN before the beginning -> [B, vocab_size].
    """
    if isinstance(net.head, ImageHead):
        return forward_image(net, net.head, inputs)
    return forward_text(net, net.head, inputs)


def forward_image(net: FrozenNet, head: ImageHead, images_BCYX: NDArray[Any]) -> Array:
    shape = net.topology.input
    assert isinstance(shape, ImageInput)
    pixels = (images_BCYX - head.mean_C[:, None, None]) / head.std_C[:, None, None]
    scales = net.topology.scales
    levels = [average_pool(pixels.astype(np.float64), scale) for scale in scales]
    flat: Array = np.concatenate([level.reshape(len(pixels), -1) for level in levels], 1)
    seen = {c.id: flat[:, field_indices(c, shape, scales)] for c in net.topology.clusters}
    return two_pass(net, seen, len(flat)) + head.bias_O


def forward_text(net: FrozenNet, head: TextHead, tokens_BW: NDArray[Any]) -> Array:
    table_VE = layer_norm(head.embed_VE, head.norm_in_scale_E, head.norm_in_bias_E)
    batch = len(tokens_BW)
    nothing: Array = np.zeros((batch, 0))
    seen = {
        c.id: np.concatenate([nothing, *(look(f, tokens_BW, table_VE) for f in c.text_fields)], 1)
        for c in net.topology.clusters
    }
    read_BO = two_pass(net, seen, batch)
    out_BO, gates_BF = np.split(read_BO, [net.topology.outputs], axis=1)
    if head.salience_VF is not None:
        out_BO = out_BO + echo(net, head, tokens_BW, gates_BF)
    if head.habit_PE is not None and head.habit_EO is not None:
        pairs_B = tokens_BW[:, -2:] @ np.array(HASH) % len(head.habit_PE)
        out_BO = out_BO + head.habit_PE[pairs_B].astype(np.float64) @ head.habit_EO
    if head.output_VO is None:
        out_BO = out_BO + look(Interval(0, 1), tokens_BW, table_VE)
    normed_BO = layer_norm(out_BO, head.norm_out_scale_O, head.norm_out_bias_O)
    return np.asarray(normed_BO @ head.vocabulary_VO.T, np.float64)


def echo(net: FrozenNet, head: TextHead, tokens_BW: NDArray[Any], gates_BF: Array) -> Array:
    """[B, O]: what the echoes add to the output (TextHead)."""
    shape, salience_VF = net.topology.input, saliences(head)
    assert isinstance(shape, TextInput)
    total_BO = np.zeros((len(tokens_BW), net.topology.outputs))
    for f, field in enumerate(shape.echoes):
        seen_BO = look(field, tokens_BW, salience_VF[:, f : f + 1] * head.vocabulary_VO)
        total_BO += gates_BF[:, f : f + 1] * seen_BO
    return total_BO


def saliences(head: TextHead) -> Array:
    """[V, F]: how much each token counts in every echo (TextHead)."""
    assert head.salience_VF is not None
    return softplus(SALIENCE_RATE * head.salience_VF.astype(np.float64) + SALIENCE_START)


def two_pass(net: FrozenNet, seen: dict[int, Array], batch: int) -> Array:
    """Sum of all readouts [B, O], text [B, O + F]; `seen`: cluster id -> its fields [B, I]."""
    topology = net.topology

    def visit(cluster: Cluster, messages: dict[int, Array]) -> Array:
        weights = net.clusters[cluster.id]
        signal_BD = np.zeros((batch, topology.channel))
        for source in topology.sources[cluster.id]:
            if source in messages:
                gate = net.gates[Connection(source=source, target=cluster.id)]
                signal_BD = signal_BD + gate * messages[source]
        signal_BD = signal_BD / max(1, len(topology.sources[cluster.id]))
        drive = seen[cluster.id] @ weights.see_IH + weights.bias_H + signal_BD @ weights.hear_DH
        return ACTIVATIONS[topology.activation](drive)

    def feedforward(cluster: Cluster) -> set[int]:
        return {
            source
            for source in topology.sources[cluster.id]
            if topology.kind(Connection(source=source, target=cluster.id)) is Kind.FEEDFORWARD
        }

    first: dict[int, Array] = {}
    for cluster in topology.clusters:
        hidden = visit(cluster, {s: first[s] for s in feedforward(cluster)})
        first[cluster.id] = hidden @ net.clusters[cluster.id].send_HD

    second: dict[int, Array] = {}
    out_BO = np.zeros((batch, topology.readouts))
    for cluster in topology.clusters:
        hidden = visit(cluster, first | {s: second[s] for s in feedforward(cluster)})
        second[cluster.id] = hidden @ net.clusters[cluster.id].send_HD
        out_BO = out_BO + hidden @ net.clusters[cluster.id].readout_HO
    return out_BO


def average_pool(images_BCYX: NDArray[Any], scale: int) -> NDArray[Any]:
    """[B, C, Y / scale, X / scale]: the means of squares of scale x scale pixels."""
    b, c, y, x = images_BCYX.shape
    squares = images_BCYX.reshape(b, c, y // scale, scale, x // scale, scale)
    return np.asarray(squares.mean((3, 5)))


def pixel_indices(
    patch: Patch, shape: ImageInput, scales: Sequence[int] = (1,)
) -> NDArray[np.int64]:
    """Where the pixels of a patch lie in the flattened levels of an image pyramid, one after the
    other: channel, then row, then column."""
    levels = {scale: (shape.height // scale, shape.width // scale) for scale in scales}
    before = (shape.channels * y * x for s, (y, x) in levels.items() if s < patch.pool)
    size = (shape.channels, *levels[patch.pool])
    grid_CYX = sum(before) + np.arange(math.prod(size)).reshape(size)
    rows = slice(patch.top, patch.top + patch.height)
    columns = slice(patch.left, patch.left + patch.width)
    return grid_CYX[list(patch.channels), rows, columns].reshape(-1)


def field_indices(
    cluster: Cluster, shape: ImageInput, scales: Sequence[int] = (1,)
) -> NDArray[np.int64]:
    """The flattened pixels that an image cluster sees, patch after patch (`pixel_indices`);
    `scales` as Topology.scales has them."""
    nothing = np.zeros(0, np.int64)
    return np.concatenate([nothing, *(pixel_indices(p, shape, scales) for p in cluster.patches)])


def look(field: TextField, tokens_BW: NDArray[Any], table_VE: Array) -> Array:
    """[B, E]: what a field sees of a window, in the rows of a table."""
    if isinstance(field, Lags):
        return pool(_rows(table_VE, tokens_BW)[:, ::-1], field)
    return _rows(table_VE, recall(tokens_BW, field.order, field.nth))


def _rows(table_VE: Array, tokens: NDArray[Any]) -> Array:
    return np.where(tokens[..., None] == NO_TOKEN, 0.0, table_VE[tokens])


def pool(by_lag_BWE: Array, field: LagField) -> Array:
    """[B, E]: the sum over the lags of a field, divided by the root of their number."""
    lags = field.lags
    seen_BLE = by_lag_BWE[:, lags.start : lags.stop : lags.step]
    return np.asarray(seen_BLE.sum(1) / math.sqrt(len(lags)))


def recall(tokens_BW: NDArray[Any], order: int, nth: int = 1) -> NDArray[np.int64]:
    """[B]: the token that followed the nth last earlier `order` tokens equal to the newest ones, or
    NO_TOKEN. What stands before the beginning of a text is equal to nothing."""

    def followed(window: list[int]) -> int:
        newest = window[-order:]
        if NO_TOKEN in newest:
            return NO_TOKEN
        ends = range(len(window) - 1, order - 1, -1)
        found = [window[after] for after in ends if window[after - order : after] == newest]
        return found[nth - 1] if len(found) >= nth else NO_TOKEN

    return np.array([followed(window) for window in tokens_BW.tolist()], np.int64)


def layer_norm(
    x: NDArray[Any], scale: NDArray[Any], bias: NDArray[Any], epsilon: float = NORM_EPSILON
) -> Array:
    x = x.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + epsilon) * scale + bias)


def softplus(x: NDArray[Any]) -> Array:
    return np.logaddexp(0, x.astype(np.float64))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array) -> Array:
    """The exact form, x * Phi(x)."""
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-np.clip(x, -60, 60))))


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    Activation.GELU: gelu,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.SILU: silu,
    Activation.TANH: np.tanh,
}
