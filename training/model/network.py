"""nn.Module from a Topology: clusters of equal shape on one level run as one batched product.

Parameters are stacked per group of clusters; `pack` and `unpack` convert between a FrozenNet
and these stacks (also for optimizer moments). Shape legend: K clusters of a group, N all
clusters, B batch (images, or sequences x positions), T tokens, and the legend of frozen.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.fields import Patch, TextInput
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.reference import NORM_EPSILON
from luminanet.topology import Activation, Topology
from training.model.inputs import Group, ImageFields, groups_of
from training.model.text_inputs import TextFields, habit

STACKED = {
    "see": "see_IH",
    "bias": "bias_H",
    "hear": "hear_DH",
    "send": "send_HD",
    "readout": "readout_HO",
}
TEXT_HEAD = (
    *("embed_VE", "norm_in_scale_E", "norm_in_bias_E", "norm_out_scale_O", "norm_out_bias_O"),
    *("output_VO", "salience_VF", "habit_PE", "habit_EO"),
)
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.GELU: F.gelu,
    Activation.RELU: F.relu,
    Activation.SILU: F.silu,
    Activation.TANH: torch.tanh,
}


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a network learns; none of it is in a trained one. Dropout of hidden states and of the
    embeddings that clusters see, and of whole rows of habits; whether a choir shares its gates
    (Topology.choirs)."""

    dropout: float = 0.0
    habit_dropout: float = 0.0
    shared_gates: bool = False


Whitening = Mapping[tuple[Patch, ...], Tensor]
"""Shapes and scales of a cluster's patches (Cluster.kernels), I pixels -> the matrix [I, I] that
stands before its `see` weights while they learn (whitening.py); what is not in it has none."""


def pack(net: FrozenNet) -> dict[str, Tensor]:
    """Parameter name -> stacked tensor, for the module of the same topology."""
    packed: dict[str, Tensor] = {}
    for g, group in enumerate(groups_of(net.topology)):
        for name, attribute in STACKED.items():
            arrays = [getattr(net.clusters[c.id], attribute) for c in group.clusters]
            stack = torch.from_numpy(np.stack(arrays))
            packed[f"{name}_{g}"] = stack[:, None] if name == "bias" else stack
    at = positions(net.topology)
    gates_NN = torch.zeros(len(at), len(at))
    for c, gate in net.gates.items():
        gates_NN[at[c.target], at[c.source]] = float(gate)
    packed["gates"] = gates_NN
    names = ("bias_O",) if isinstance(net.head, ImageHead) else TEXT_HEAD
    shared = {name: getattr(net.head, name) for name in names}
    return packed | {n: torch.from_numpy(a.copy()) for n, a in shared.items() if a is not None}


def unpack(net: FrozenNet, packed: Mapping[str, Tensor], shared_gates: bool = False) -> FrozenNet:
    """A FrozenNet like `net` (same topology) with the numbers of `packed`; with shared gates, those
    of a choir's first cluster for all of it."""
    arrays = {name: t.detach().float().cpu().numpy().copy() for name, t in packed.items()}
    clusters: dict[int, ClusterWeights] = {}
    for g, group in enumerate(groups_of(net.topology)):
        for k, cluster in enumerate(group.clusters):
            weights = {a: arrays[f"{name}_{g}"][k] for name, a in STACKED.items()}
            weights["bias_H"] = weights["bias_H"][0]
            clusters[cluster.id] = ClusterWeights(**weights)
    at = positions(net.topology)
    voices = _voices(net.topology, shared_gates)
    gates = {c: float(arrays["gates"][voices[at[c.target]], at[c.source]]) for c in net.gates}
    if isinstance(net.head, ImageHead):
        head: ImageHead | TextHead = ImageHead(net.head.mean_C, net.head.std_C, arrays["bias_O"])
    else:
        head = TextHead(**{name: arrays[name] for name in TEXT_HEAD if name in arrays})
    return FrozenNet(net.topology, clusters, gates, head)


def positions(topology: Topology) -> dict[int, int]:
    """Cluster id -> row and column of the gate matrix."""
    members = [c.id for group in groups_of(topology) for c in group.clusters]
    return {cluster: position for position, cluster in enumerate(members)}


def _voices(topology: Topology, shared_gates: bool) -> list[int]:
    """For every row of the gate matrix, the row that holds its gates."""
    at = positions(topology)
    return [at[topology.choirs[cluster] if shared_gates else cluster] for cluster in at]


class Network(nn.Module):
    """The trainable two-pass network; the same numbers as luminanet.reference on `frozen`, or
    with a whitening, on what whitening.fold makes of it."""

    mask_NN: Tensor
    share_N1: Tensor
    voices_N: Tensor

    def __init__(
        self,
        net: FrozenNet,
        options: NetworkOptions = NetworkOptions(),
        white: Whitening | None = None,
    ) -> None:
        super().__init__()
        self.frozen = net
        self.options = options
        self.white = white or {}
        self.topology = net.topology
        self.groups = groups_of(net.topology)
        self.drive = nn.Identity()
        """What drives each group passes through it: signals listen there (field_gradients.py)."""
        for name, value in pack(net).items():
            self.register_parameter(name, nn.Parameter(value))
        at = positions(net.topology)
        mask_NN = torch.zeros(len(at), len(at))
        for c in net.topology.connections:
            mask_NN[at[c.target], at[c.source]] = 1
        for g, group in enumerate(self.groups):
            self.register_buffer(f"white_{g}", _before(group, self.white))
        self.register_buffer("mask_NN", mask_NN)
        self.register_buffer("voices_N", torch.tensor(_voices(net.topology, options.shared_gates)))
        self.register_buffer("share_N1", 1 / mask_NN.sum(1, keepdim=True).clamp(min=1))
        self.inputs = (
            ImageFields(net.topology, net.head, self.groups)
            if isinstance(net.head, ImageHead)
            else TextFields(net.topology, self.groups)
        )

    def freeze(self) -> FrozenNet:
        return self.unpacked(dict(self.named_parameters()))

    def unpacked(self, packed: Mapping[str, Tensor]) -> FrozenNet:
        """Numbers that belong to the parameters, such as their moments, as a FrozenNet."""
        return unpack(self.frozen, packed, self.options.shared_gates)

    def stack(self, name: str, g: int) -> Tensor:
        return self.get_parameter(f"{name}_{g}")

    def forward(
        self, inputs: Tensor, probe_NN: Tensor | None = None, newest: bool = False
    ) -> Tensor:
        """Images [B, C, Y, X] in 0..1 -> [B, classes]; token ids [B, T] -> [B, T, vocab], or with
        `newest` of the last position alone, [B, 1, vocab], for a text no longer than the window.

        `probe_NN` (zeros that require a gradient) is added to the mixing matrix, so that its
        gradient tells what every connection would be worth, present or not.
        """
        if isinstance(self.inputs, ImageFields):
            return self.two_pass(self.inputs(inputs), probe_NN) + self.get_parameter("bias_O")
        return F.linear(self.features(inputs, probe_NN, newest), self.vocabulary)

    @property
    def is_text(self) -> bool:
        return isinstance(self.inputs, TextFields)

    @property
    def is_tied(self) -> bool:
        return isinstance(self.topology.input, TextInput) and self.topology.input.tied

    @property
    def vocabulary(self) -> Tensor:
        """The output layer of a text network, [V, O]: the embedding again, where it is tied."""
        return self.get_parameter("embed_VE" if self.is_tied else "output_VO")

    def features(
        self, tokens_BT: Tensor, probe_NN: Tensor | None = None, newest: bool = False
    ) -> Tensor:
        """What comes before the output layer of a text network, [B, T, O]; `newest`: [B, 1, O]."""
        assert isinstance(self.inputs, TextFields)
        embedded_BTE, shape = self.embed(tokens_BT), self.inputs.shape
        read = self.two_pass(self.inputs(tokens_BT, embedded_BTE, newest), probe_NN)
        outputs, p = self.topology.outputs, self.get_parameter
        out = read[:, :outputs]
        if shape.echoes:
            gates, salience_VF = read[:, outputs:], p("salience_VF")
            out = out + self.inputs.echo(tokens_BT, self.vocabulary, salience_VF, gates, newest)
        if shape.habits:
            found = habit(tokens_BT, p("habit_PE"), newest)
            known = F.dropout1d(found, self.options.habit_dropout, self.training)
            out = out + known @ p("habit_EO")
        out = out.view(len(tokens_BT), -1, outputs)
        heard = embedded_BTE[:, -1 if newest else 0 :]
        return self.norm(out + heard if self.is_tied else out, "out", "O")

    def activity(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What each cluster says and what it would like to hear, both [N, B, D]: its message,
        and its hidden state sent back through its own `hear`."""
        if isinstance(self.inputs, ImageFields):
            hidden = self.settle(self.inputs(inputs), None)
        else:
            hidden = self.settle(self.inputs(inputs, self.embed(inputs)), None)
        said = [h @ self.stack("send", g) for g, h in enumerate(hidden)]
        wanted = [h @ self.stack("hear", g).mT for g, h in enumerate(hidden)]
        return torch.cat(said), torch.cat(wanted)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        rows_BTE = self.norm(F.embedding(tokens_BT, self.get_parameter("embed_VE")), "in", "E")
        return F.dropout(rows_BTE, self.options.dropout, self.training)

    def norm(self, x: Tensor, which: str, size: str) -> Tensor:
        p = self.get_parameter
        scale, bias = (p(f"norm_{which}_{part}_{size}") for part in ("scale", "bias"))
        return F.layer_norm(x, scale.shape, scale, bias, NORM_EPSILON)

    def two_pass(self, seen: list[Tensor], probe_NN: Tensor | None) -> Tensor:
        """Sum of all readouts [B, O], text: [B, O + F]; seen[g] is [K, B, I]."""
        return self.read(self.settle(seen, probe_NN))

    def settle(self, seen: list[Tensor], probe_NN: Tensor | None) -> list[Tensor]:
        """The hidden states after both passes, [K, B, H] a group."""
        gates_NN: Tensor = self.get_parameter("gates")
        gates_NN = gates_NN[self.voices_N] if self.options.shared_gates else gates_NN
        mix_NN = gates_NN * self.mask_NN * self.share_N1
        mix_NN = mix_NN if probe_NN is None else mix_NN + probe_NN
        drives = [
            self.drive(torch.baddbmm(self.stack("bias", g), x, self.see(g)))
            for g, x in enumerate(seen)
        ]
        connected = probe_NN is not None or bool(self.topology.connections)
        first_NBD: Tensor | None = None
        hidden: list[Tensor] = []
        for g, group in enumerate(self.groups):
            signal = self.mix(mix_NN, group, first_NBD, group.below) if connected else None
            hidden.append(self.visit(g, drives[g], signal))
            if connected:
                first_NBD = _append(first_NBD, hidden[g] @ self.stack("send", g))
        if first_NBD is not None:
            second_NBD: Tensor | None = None
            for g, group in enumerate(self.groups):
                latest = first_NBD
                if second_NBD is not None and group.below:
                    latest = torch.cat([second_NBD[: group.below], first_NBD[group.below :]])
                signal = self.mix(mix_NN, group, latest, len(latest))
                hidden[g] = self.visit(g, drives[g], signal)
                if group.level < self.groups[-1].level:
                    second_NBD = _append(second_NBD, hidden[g] @ self.stack("send", g))
        return hidden

    def see(self, g: int) -> Tensor:
        """What a group's fields are multiplied by, [K, I, H]."""
        white: Tensor | None = self.get_buffer(f"white_{g}")
        weights = self.stack("see", g)
        return weights if white is None else white @ weights

    def mix(self, mix_NN: Tensor, group: Group, messages: Tensor | None, n: int) -> Tensor | None:
        """The signals [K, B, D] that a group receives from the first n messages."""
        if messages is None or n == 0:
            return None
        rows = mix_NN[group.first : group.last, :n]
        return (rows @ messages[:n].flatten(1)).view(len(group.clusters), *messages.shape[1:])

    def visit(self, g: int, drive: Tensor, signal: Tensor | None) -> Tensor:
        if signal is not None:
            drive = torch.baddbmm(drive, signal, self.stack("hear", g))
        return ACTIVATIONS[self.topology.activation](drive)

    def read(self, hidden: list[Tensor]) -> Tensor:
        parts = [
            torch.bmm(
                F.dropout(h, self.options.dropout, self.training), self.stack("readout", g)
            ).sum(0)
            for g, h in enumerate(hidden)
        ]
        return torch.stack(parts).sum(0)


def _before(group: Group, white: Whitening) -> Tensor | None:
    """What stands before the `see` weights of a group: one matrix [I, I] where all its clusters
    have the same, else one for each [K, I, I]; None where none has one."""
    kernels = [cluster.kernels for cluster in group.clusters]
    if white.keys().isdisjoint(kernels):
        return None
    if len(set(kernels)) == 1:
        return white[kernels[0]]
    return torch.stack([white.get(own, torch.eye(group.inputs)) for own in kernels])


def _append(messages: Tensor | None, new: Tensor) -> Tensor:
    return new if messages is None else torch.cat([messages, new])
