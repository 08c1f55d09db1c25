"""FrozenNet = Topology + weights: everything needed to run a LuminaNet anywhere.

Shape legend: I inputs of the cluster, H its neurons (width), D channel, O outputs,
V vocabulary, E embedding, F echoes, P habits, C colour channels.

The same container carries the optimizer's moments and the moving average of the weights
while the network evolves, because they have the same shape (training/evolution/transplant.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import TopologyError
from luminanet.fields import TextInput
from luminanet.topology import Connection, Topology

Array = NDArray[np.float32]
SALIENCE_RATE = 10.0
"""Saliences are learned on a scale of their own, faster than weights."""
SALIENCE_START = math.log(math.e - 1)
HASH = (7919, 1_000_003)
"""Of the token before the newest, and of the newest; a token that is not there is -1."""


@dataclass(frozen=True, slots=True)
class ClusterWeights:
    """What one cluster learned.

    hidden_H  = act(fields_I @ see_IH + bias_H + signal_D @ hear_DH)
    message_D = hidden_H @ send_HD          (the paper's W_C f)
    output_O += hidden_H @ readout_HO          (text: O outputs and F echoes)
    """

    see_IH: Array
    bias_H: Array
    hear_DH: Array
    send_HD: Array
    readout_HO: Array


@dataclass(frozen=True, slots=True)
class ImageHead:
    """Input normalisation per colour channel (of pixels in 0..1), and the output bias."""

    mean_C: Array
    std_C: Array
    bias_O: Array


@dataclass(frozen=True, slots=True)
class TextHead:
    """Embedding, the two layer norms around the clusters, the output layer if it is not tied to the
    embedding, and what else adds to the output: of every echo how much each token counts in it,
    and the table of habits.

    output_O += gate_f * sum over the tokens v that echo f sees, each as often as it is there:
                weight_f * salience(v, f) * vocabulary_O[v]

    gate_f are the last F numbers of the readouts, weight_f 1 / sqrt(length) in an interval and 1
    for what is recalled, and salience softplus(SALIENCE_RATE * salience_VF + SALIENCE_START):
    positive, and 1 where salience_VF is 0.

    output_O += habit_PE[pair] @ habit_EO, pair = (sum of HASH * newest two token ids) modulo P
    """

    embed_VE: Array
    norm_in_scale_E: Array
    norm_in_bias_E: Array
    norm_out_scale_O: Array
    norm_out_bias_O: Array
    output_VO: Array | None = None
    salience_VF: Array | None = None
    habit_PE: Array | None = None
    habit_EO: Array | None = None

    @property
    def vocabulary_VO(self) -> Array:  # noqa: N802 - a tensor with its shape
        """The matrix of the output layer."""
        return self.embed_VE if self.output_VO is None else self.output_VO


@dataclass(frozen=True, slots=True)
class FrozenNet:
    """A topology with its weights; raises TopologyError when shapes and topology disagree."""

    topology: Topology
    clusters: Mapping[int, ClusterWeights]
    gates: Mapping[Connection, float]
    head: ImageHead | TextHead

    def __post_init__(self) -> None:
        topology = self.topology
        if set(self.clusters) != set(topology.by_id):
            raise TopologyError("weights and topology name different clusters")
        if set(self.gates) != set(topology.connections):
            raise TopologyError("gates and topology name different connections")
        for cluster in topology.clusters:
            i, h = topology.inputs(cluster), cluster.width
            d, o = topology.channel, topology.readouts
            shapes = {"see_IH": (i, h), "bias_H": (h,), "hear_DH": (d, h)}
            shapes |= {"send_HD": (h, d), "readout_HO": (h, o)}
            _check(self.clusters[cluster.id], shapes, f"cluster {cluster.id}")
        _check(self.head, _head_shapes(topology), "head")

    @property
    def is_text(self) -> bool:
        return isinstance(self.topology.input, TextInput)


def _head_shapes(topology: Topology) -> dict[str, tuple[int, ...]]:
    if isinstance(topology.input, TextInput):
        v, e, o = topology.input.vocab_size, topology.input.embedding, topology.outputs
        shapes: dict[str, tuple[int, ...]] = {"embed_VE": (v, e)}
        shapes |= dict.fromkeys(("norm_in_scale_E", "norm_in_bias_E"), (e,))
        shapes |= dict.fromkeys(("norm_out_scale_O", "norm_out_bias_O"), (o,))
        if not topology.input.tied:
            shapes["output_VO"] = (v, o)
        if topology.input.echoes:
            shapes["salience_VF"] = (v, len(topology.input.echoes))
        if topology.input.habits:
            shapes |= {"habit_PE": (topology.input.habits, e), "habit_EO": (e, o)}
        return shapes
    c = topology.input.channels
    return {"mean_C": (c,), "std_C": (c,), "bias_O": (topology.outputs,)}


def _check(weights: object, shapes: dict[str, tuple[int, ...]], where: str) -> None:
    given = fields(weights)  # type: ignore[arg-type]
    names = {field.name for field in given if getattr(weights, field.name) is not None}
    if names != set(shapes):
        raise TopologyError(f"{where}: weights {sorted(names)} do not fit the kind of input")
    for name, shape in shapes.items():
        array = getattr(weights, name)
        if array.shape != shape or array.dtype != np.float32:
            found = f"{array.dtype}{list(array.shape)}"
            raise TopologyError(f"{where}: {name} is {found}, expected float32{list(shape)}")
