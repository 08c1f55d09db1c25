"""GPT-2 -> ONNX as most exporters write it: a cache that grows, and is copied by every step.

The names are those of luminanet/interface.py, without lengths: the newest tokens [batch, 1] and
pasts of any one length P, [batch, heads, P, head width]; presents are of length P + 1.

One step of rows that are all at the same position: no mask, no place to look up, standard operators
alone, and so as few nodes as this form can have. It is what export/gpt2/cached.py is compared with
(gpt2_cache.py). Shape legend: that of export/gpt2/cached.py.
"""

import math

import numpy as np
import onnx

from export.gpt2.cached import Unroll
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import LOGITS, PARTS, TOKENS, past, present


def unroll_concat_gpt2(net: Gpt2Net) -> onnx.ModelProto:
    """The graph of one decoding step."""
    return _Concat(net).model()


class _Concat(Unroll):
    def declare(self) -> None:
        self.graph.input(TOKENS, np.int64, ["batch", 1])
        self.graph.output(LOGITS, np.float32, ["batch", self.net.config.vocab_size])

    def positions(self) -> str:
        """The one position of all rows, [1]."""
        return self.node("Shape", [past(PARTS[0], 0)], "positions", start=2, end=3)

    def lengths(self, positions_BS: str) -> None:
        """The shapes of the caches say it all."""

    def attend(self, x_BSE: str, layer: int) -> str:
        """x + attention over the cache and the new step, appended to a copy of the cache."""
        config, name, node = self.net.config, f"layer{layer}/attention", self.node
        width = config.width // config.heads
        qkv_BSQ = self.linear(self.norm(x_BSE, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn")
        parts = [f"{name}/{part}" for part in ("queries", *PARTS)]
        self.graph.nodes("Split", [qkv_BSQ], f"{name}/split", parts, axis=-1, num_outputs=3)
        rows = self.constant("attention/heads", np.array([0, config.heads, 1, width]))
        queries_BA1K, *new = (node("Reshape", [part, rows], f"{part}/heads") for part in parts)
        pasts = [past(part, layer) for part in PARTS]
        keys, values = map(present, pasts)
        for before, step_BA1K in zip(pasts, new, strict=True):
            sizes = ("batch", config.heads)
            self.graph.input(before, np.float32, [*sizes, "past", width])
            node("Concat", [before, step_BA1K], present(before), axis=2)
            self.graph.output(present(before), np.float32, [*sizes, "present", width])
        keys = node("Transpose", [keys], f"{name}/turned", perm=[0, 1, 3, 2])
        scale = self.constant("attention/scale", np.array(1 / math.sqrt(width), np.float32))
        scores = node("MatMul", [queries_BA1K, keys], f"{name}/scores")
        scaled = node("Mul", [scores, scale], f"{name}/scaled")
        weights_BA1P = node("Softmax", [scaled], f"{name}/weights", axis=-1)
        mixed_BA1K = node("MatMul", [weights_BA1P, values], f"{name}/mixed")
        whole = self.constant("attention/whole", np.array([0, 1, config.width]))
        mixed_BSE = node("Reshape", [mixed_BA1K, whole], f"{name}/joined")
        projected_BSE = self.linear(mixed_BSE, f"h.{layer}.attn.c_proj")
        return node("Add", [x_BSE, projected_BSE], f"{name}/sum")
