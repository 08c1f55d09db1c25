"""GPT-2 -> ONNX: the baseline in its best form, with a KV cache that is updated in place.

Its inputs and outputs are those of luminanet/interface.py, CacheGraphs.logits. Binding a present
output to the very buffer of its past input updates the cache in place. Rows may have different past
lengths when steps is 1; several steps (a prompt) need either empty pasts or a batch of 1, which is
what onnxruntime's GroupQueryAttention offers on a CPU. Checked against luminanet/gpt2.py by
checks/verify.py. Shape legend: that of gpt2.py, and S steps.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from export.graph.builder import MICROSOFT, Graph
from export.graph.declare import declare
from luminanet import interface
from luminanet.gpt2 import GELU_TANH, Gpt2Net
from luminanet.interface import LENGTHS, LOGITS, PARTS, TOKENS
from luminanet.topology import Activation

ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    GELU_TANH: ("Gelu", {"approximate": "tanh"}),
    Activation.GELU: ("Gelu", {}),
    Activation.RELU: ("Relu", {}),
    Activation.TANH: ("Tanh", {}),
}
"""Operators, and their attributes; silu is a product of two."""


def unroll_gpt2(net: Gpt2Net) -> onnx.ModelProto:
    """The graph of one decoding step, or of a prompt."""
    return Unroll(net).model()


class Unroll:
    """One graph in the making; every method adds nodes and returns the name of its result."""

    def __init__(self, net: Gpt2Net) -> None:
        self.net = net
        self.graph = Graph("gpt2")
        self.constant = self.graph.constant
        self.node = self.graph.node

    def model(self) -> onnx.ModelProto:
        config = self.net.config
        self.declare()
        positions_BS = self.positions()
        self.lengths(positions_BS)
        x_BSE = self.embed(positions_BS)
        for layer in range(config.layers):
            x_BSE = self.attend(x_BSE, layer)
            if layer == config.layers - 1:
                x_BSE = self.newest(x_BSE)
            x_BSE = self.think(x_BSE, layer)
        normed_BE = self.norm(x_BSE, "ln_f")
        self.node("Gemm", [normed_BE, self.tensor(config.output)], LOGITS, transB=1)
        return self.graph.build()

    def declare(self) -> None:
        """Gives the graph its inputs and outputs."""
        declare(self.graph, interface.of(self.net).logits())

    def positions(self) -> str:
        """Past length + step of every new token, [B, S]."""
        zero, one = (self.constant(f"positions/{i}", np.array(i)) for i in (0, 1))
        column = self.constant("positions/column", np.array([1]))
        self.node("Shape", [TOKENS], "steps", start=1, end=2)
        count = self.node("Squeeze", ["steps"], "steps/count")
        ahead_S = self.node("Range", [zero, count, one], "positions/ahead")
        past_B = self.node("Cast", [LENGTHS], "positions/past", to=onnx.TensorProto.INT64)
        past_B1 = self.node("Unsqueeze", [past_B, column], "positions/past_column")
        return self.node("Add", [past_B1, ahead_S], "positions")

    def lengths(self, positions_BS: str) -> None:
        """What GroupQueryAttention asks for: the last key of each row, and the longest length."""
        last, one = self.constant("last_step", np.array(-1)), np.array(1, np.int32)
        newest_B = self.node("Gather", [positions_BS, last], "positions/newest", axis=1)
        self.node("Cast", [newest_B], "lengths/last_key", to=onnx.TensorProto.INT32)
        longest = self.node("ReduceMax", ["lengths/last_key"], "lengths/longest_key", keepdims=0)
        self.node("Add", [longest, self.constant("lengths/one", one)], "lengths/longest")

    def embed(self, positions_BS: str) -> str:
        """Token plus position embeddings [B, S, E]."""
        tokens = self.node("Gather", [self.tensor("wte.weight"), TOKENS], "embedding/tokens")
        places = self.node(
            "Gather", [self.tensor("wpe.weight"), positions_BS], "embedding/positions"
        )
        return self.node("Add", [tokens, places], "embedding")

    def attend(self, x_BSE: str, layer: int) -> str:
        """x + attention over the cache and the new steps, which are appended to the cache."""
        config, name = self.net.config, f"layer{layer}/attention"
        past = [interface.past(part, layer) for part in PARTS]
        present = map(interface.present, past)
        qkv_BSQ = self.linear(self.norm(x_BSE, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn")
        self.graph.nodes(
            "GroupQueryAttention",
            [qkv_BSQ, "", "", *past, "lengths/last_key", "lengths/longest"],
            name,
            [f"{name}/mixed", *present],
            domain=MICROSOFT,
            num_heads=config.heads,
            kv_num_heads=config.heads,
        )
        projected_BSE = self.linear(f"{name}/mixed", f"h.{layer}.attn.c_proj")
        return self.node("Add", [x_BSE, projected_BSE], f"{name}/sum")

    def newest(self, x_BSE: str) -> str:
        """Keeps the last step of every sequence, [B, E]: no other is asked for."""
        last = self.constant("last_step", np.array(-1))
        return self.node("Gather", [x_BSE, last], "newest", axis=1)

    def think(self, x_BSE: str, layer: int) -> str:
        """x + the two-layer perceptron."""
        name = f"h.{layer}.mlp"
        inner = self.linear(self.norm(x_BSE, f"h.{layer}.ln_2"), f"{name}.c_fc")
        active = self.activate(inner, name)
        return self.node("Add", [x_BSE, self.linear(active, f"{name}.c_proj")], f"{name}/sum")

    def activate(self, x: str, name: str) -> str:
        activation = self.net.config.activation
        if activation == Activation.SILU:
            gate = self.node("Sigmoid", [x], f"{name}/gate")
            return self.node("Mul", [x, gate], f"{name}/{activation}")
        op, attributes = ACTIVATIONS[activation]
        return self.node(op, [x], f"{name}/{op.lower()}", **attributes)

    def tensor(self, name: str) -> str:
        return self.constant(name, self.net.tensors[name])

    def linear(self, x: str, name: str) -> str:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self.node("Add", [self.node("MatMul", [x, weight], f"{name}/product"), bias], name)

    def norm(self, x: str, name: str) -> str:
        scale, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        epsilon = self.net.config.norm_epsilon
        return self.node("LayerNormalization", [x, scale, bias], name, epsilon=epsilon)
