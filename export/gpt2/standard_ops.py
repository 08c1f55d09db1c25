"""GPT-2 -> ONNX of standard operators alone: the baseline where there is no onnxruntime.

The interface is that of cached.py. Instead of com.microsoft's GroupQueryAttention, new keys and
values are placed into the cache by one-hot products, for rows of any lengths and any number of
steps at once, and attention is written out. TensorRT reads this graph; it copies the cache in every
step, so onnxruntime is better served by cached.py. Shape legend: that of cached.py, and
C context, A heads, K width of a head.
"""

import math

import numpy as np
import onnx

from export.gpt2.cached import Unroll
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import PARTS, past, present

HIDDEN = -1e9
"""What is added to the score of a place that may not be seen."""


def unroll_plain_gpt2(net: Gpt2Net) -> onnx.ModelProto:
    """The graph of one decoding step, or of a prompt."""
    return _Plain(net).model()


class _Plain(Unroll):
    def lengths(self, positions_BS: str) -> None:
        """Which place of the cache every step writes and sees, for all layers."""
        node, constant = self.node, self.constant
        last, column = (
            constant("places/last", np.array([-1])),
            constant("places/axis", np.array([1])),
        )
        positions_BS1 = node("Unsqueeze", [positions_BS, last], "places/positions")
        places = constant("places", np.arange(self.net.config.context))
        mine_BSC = node("Equal", [positions_BS1, places], "places/mine")
        write_BSC = node("Cast", [mine_BSC], "places/write", to=onnx.TensorProto.FLOAT)
        write_BCS = node("Transpose", [write_BSC], "places/turned", perm=[0, 2, 1])
        node("Unsqueeze", [write_BCS, column], "write_B1CS")
        written_BC1 = node("ReduceSum", [write_BCS, last], "places/written", keepdims=1)
        one = constant("places/one", np.array(1, np.float32))
        node("Unsqueeze", [node("Sub", [one, written_BC1], "places/kept"), column], "keep_B1C1")
        later_BSC = node("Greater", [places, positions_BS1], "places/later")
        later = node("Cast", [later_BSC], "places/later_float", to=onnx.TensorProto.FLOAT)
        hide = constant("places/hidden", np.array(HIDDEN, np.float32))
        node("Unsqueeze", [node("Mul", [later, hide], "places/hide"), column], "hide_B1SC")

    def attend(self, x_BSE: str, layer: int) -> str:
        """x + attention over the cache and the new steps, which are placed into the cache."""
        config, name, node = self.net.config, f"layer{layer}/attention", self.node
        width = config.width // config.heads
        qkv_BSQ = self.linear(self.norm(x_BSE, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn")
        parts = [f"{name}/{part}" for part in ("queries", *PARTS)]
        self.graph.nodes("Split", [qkv_BSQ], f"{name}/split", parts, axis=-1, num_outputs=3)
        queries_BASK, *new = (self.heads(part) for part in parts)
        pasts = [past(part, layer) for part in PARTS]
        keys, values = map(present, pasts)
        for before, steps_BASK, part in zip(pasts, new, PARTS, strict=True):
            kept = node("Mul", [before, "keep_B1C1"], f"{name}/{part}/kept")
            placed = node("MatMul", ["write_B1CS", steps_BASK], f"{name}/{part}/placed")
            node("Add", [kept, placed], present(before))
        turned = node("Transpose", [keys], f"{name}/keys/turned", perm=[0, 1, 3, 2])
        scale = self.constant("attention/scale", np.array(1 / math.sqrt(width), np.float32))
        scaled = node("Mul", [queries_BASK, scale], f"{name}/queries/scaled")
        scores = node("MatMul", [scaled, turned], f"{name}/scores")
        seen = node("Add", [scores, "hide_B1SC"], f"{name}/seen")
        weights_BASC = node("Softmax", [seen], f"{name}/weights", axis=-1)
        mixed = node("MatMul", [weights_BASC, values], f"{name}/mixed")
        rows = node("Transpose", [mixed], f"{name}/rows", perm=[0, 2, 1, 3])
        whole = self.constant("attention/whole", np.array([0, 0, config.width]))
        mixed_BSE = node("Reshape", [rows, whole], f"{name}/joined")
        projected_BSE = self.linear(mixed_BSE, f"h.{layer}.attn.c_proj")
        return node("Add", [x_BSE, projected_BSE], f"{name}/sum")

    def heads(self, part_BSE: str) -> str:
        """[B, S, E] -> [B, A, S, K]."""
        shape = self.constant("attention/heads", np.array([0, 0, self.net.config.heads, -1]))
        split = self.node("Reshape", [part_BSE, shape], f"{part_BSE}/split")
        return self.node("Transpose", [split], f"{part_BSE}/heads", perm=[0, 2, 1, 3])
