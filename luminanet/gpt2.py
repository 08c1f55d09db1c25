"""The baseline: weights of a GPT-2-style Transformer, and its slow numpy reference.

Tensor names and layouts are those of Hugging Face's GPT2LMHeadModel without the `transformer.`
prefix (Conv1D weights are [in, out]; the output layer is tied to `wte`). Shape legend: B batch,
T tokens, E width, A heads, K width of a head, V vocabulary, P tokens before, S = P + T.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import TopologyError
from luminanet.reference import layer_norm

Past = tuple[NDArray[Any], NDArray[Any]]
"""Keys and values of one layer, each [B, A, P, K]."""


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    vocab_size: int
    context: int
    width: int
    heads: int
    layers: int = 1

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.context, self.width, self.heads, self.layers) < 1:
            raise TopologyError("every size of a GPT-2 must be at least 1")
        if self.width % self.heads:
            raise TopologyError(f"width {self.width} is not a multiple of heads {self.heads}")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape, for all tensors of the model."""
        e = self.width
        shapes: dict[str, tuple[int, ...]] = {
            "wte.weight": (self.vocab_size, e),
            "wpe.weight": (self.context, e),
        }
        for layer in range(self.layers):
            block = {
                "ln_1.weight": (e,),
                "ln_1.bias": (e,),
                "attn.c_attn.weight": (e, 3 * e),
                "attn.c_attn.bias": (3 * e,),
                "attn.c_proj.weight": (e, e),
                "attn.c_proj.bias": (e,),
                "ln_2.weight": (e,),
                "ln_2.bias": (e,),
                "mlp.c_fc.weight": (e, 4 * e),
                "mlp.c_fc.bias": (4 * e,),
                "mlp.c_proj.weight": (4 * e, e),
                "mlp.c_proj.bias": (e,),
            }
            shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
        return shapes | {"ln_f.weight": (e,), "ln_f.bias": (e,)}


@dataclass(frozen=True, slots=True)
class Gpt2Net:
    """A GPT-2 with its weights (float32); raises TopologyError when a tensor does not fit."""

    config: Gpt2Config
    tensors: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        shapes = self.config.shapes()
        if set(shapes) != set(self.tensors):
            odd = sorted(set(shapes) ^ set(self.tensors))
            raise TopologyError(f"tensors and configuration differ in {odd[:4]}")
        for name, shape in shapes.items():
            if self.tensors[name].shape != shape or self.tensors[name].dtype != np.float32:
                found = f"{self.tensors[name].dtype}{list(self.tensors[name].shape)}"
                raise TopologyError(f"{name} is {found}, expected float32{list(shape)}")

    @property
    def parameters(self) -> int:
        return sum(array.size for array in self.tensors.values())

    def summary(self) -> str:
        c = self.config
        return (
            f"GPT-2 style Transformer, {c.layers} layer(s), width {c.width}, {c.heads} heads, "
            f"context {c.context}, {self.parameters / 1e6:.2f} M parameters"
        )


def forward(
    net: Gpt2Net, tokens_BT: NDArray[Any], pasts: Sequence[Past] = ()
) -> NDArray[np.float64]:
    """Logits after every token, [B, T, V], in float64 and without a cache.

    `pasts`: for each layer what stands before the tokens, P tokens in every row; none: nothing.
    """
    batch, length = tokens_BT.shape
    past = pasts[0][0].shape[2] if pasts else 0

    def t(name: str) -> NDArray[np.float64]:
        return net.tensors[name].astype(np.float64)

    x_BTE = net.tensors["wte.weight"][tokens_BT] + t("wpe.weight")[past : past + length]
    for layer in range(net.config.layers):
        p = f"h.{layer}."

        def linear(x: NDArray[Any], name: str, p: str = p) -> NDArray[np.float64]:
            return np.asarray(x @ t(f"{p}{name}.weight") + t(f"{p}{name}.bias"))

        normed = layer_norm(x_BTE, t(p + "ln_1.weight"), t(p + "ln_1.bias"))
        q, k, v = (
            part.reshape(batch, length, net.config.heads, -1).swapaxes(1, 2)
            for part in np.split(linear(normed, "attn.c_attn"), 3, axis=-1)
        )
        if pasts:
            k, v = (np.concatenate(pair, 2) for pair in zip(pasts[layer], (k, v), strict=True))
        scores_BATS = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        seen_TS = np.tri(length, past + length, past, dtype=bool)
        scores_BATS = np.where(seen_TS, scores_BATS, -np.inf)
        weights = np.exp(scores_BATS - scores_BATS.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x_BTE = x_BTE + linear(mixed.swapaxes(1, 2).reshape(batch, length, -1), "attn.c_proj")
        normed = layer_norm(x_BTE, t(p + "ln_2.weight"), t(p + "ln_2.bias"))
        x_BTE = x_BTE + linear(gelu_tanh(linear(normed, "mlp.c_fc")), "mlp.c_proj")
    normed = layer_norm(x_BTE, t("ln_f.weight"), t("ln_f.bias"))
    return np.asarray(normed @ t("wte.weight").T)


def gelu_tanh(x: NDArray[Any]) -> NDArray[np.float64]:
    """The tanh approximation that GPT-2 uses."""
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
