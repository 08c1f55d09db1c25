"""The baseline: weights of a GPT-2-style Transformer, and its slow numpy reference.

Tensor names and layouts are those of Hugging Face's GPT2LMHeadModel without the `transformer.`
prefix (Conv1D weights are [in, out]; `lm_head.weight` is there unless it is tied to `wte`). Shape
legend: B batch, T tokens, E width, A heads, K width of a head, V vocabulary, P tokens before,
S = P + T.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import TopologyError
from luminanet.reference import ACTIVATIONS as EXACT
from luminanet.reference import NORM_EPSILON, layer_norm

Past = tuple[NDArray[Any], NDArray[Any]]
"""Keys and values of one layer, each [B, A, P, K]."""


def gelu_tanh(x: NDArray[Any]) -> NDArray[np.float64]:
    """The tanh approximation that GPT-2 uses."""
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


GELU_TANH = "gelu_tanh"
ACTIVATIONS: Mapping[str, Callable[[NDArray[Any]], NDArray[np.float64]]] = {
    GELU_TANH: gelu_tanh,
    **{str(name): function for name, function in EXACT.items()},
}
"""What the perceptron may use: gelu_tanh, and those of a LuminaNet (gelu is the exact one)."""


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """The sizes, and what other GPT-2s do otherwise; the defaults are GPT-2's own."""

    vocab_size: int
    context: int
    width: int
    heads: int
    layers: int = 1
    activation: str = GELU_TANH
    norm_epsilon: float = NORM_EPSILON
    inner: int | None = None
    """Width of the perceptron between its two layers; None: four times that of the network."""
    tied: bool = True
    """Whether the output layer is the embedding again."""

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise TopologyError(f"activation {self.activation!r} is none of {names}")
        if not 0 < self.norm_epsilon < math.inf:
            raise TopologyError(f"norm_epsilon is {self.norm_epsilon}, not a positive number")
        if self.hidden < 1:
            raise TopologyError(f"the perceptrons are {self.hidden} wide, and 1 is the least")
        if min(self.vocab_size, self.context, self.width, self.heads, self.layers) < 1:
            raise TopologyError("every size of a GPT-2 must be at least 1")
        if self.width % self.heads:
            raise TopologyError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def hidden(self) -> int:
        """Width of the perceptron between its two layers."""
        return 4 * self.width if self.inner is None else self.inner

    @property
    def output(self) -> str:
        """Name of the tensor [V, E] that is the output layer."""
        return "wte.weight" if self.tied else "lm_head.weight"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape, for all tensors of the model."""
        e, inner = self.width, self.hidden
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
                "mlp.c_fc.weight": (e, inner),
                "mlp.c_fc.bias": (inner,),
                "mlp.c_proj.weight": (inner, e),
                "mlp.c_proj.bias": (e,),
            }
            shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
        shapes |= {"ln_f.weight": (e,), "ln_f.bias": (e,)}
        return shapes | ({} if self.tied else {self.output: (self.vocab_size, e)})


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
        usual = Gpt2Config(c.vocab_size, c.context, c.width, c.heads, c.layers)
        special = [
            (c.activation != usual.activation, f"activation {c.activation}"),
            (c.norm_epsilon != usual.norm_epsilon, f"norm epsilon {c.norm_epsilon:g}"),
            (c.hidden != usual.hidden, f"perceptrons of {c.hidden}"),
            (not c.tied, "output layer of its own"),
        ]
        return (
            f"GPT-2 style Transformer, {c.layers} layer(s), width {c.width}, {c.heads} heads, "
            f"context {c.context}, {''.join(f'{words}, ' for is_so, words in special if is_so)}"
            f"{self.parameters / 1e6:.2f} M parameters"
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

    def norm(x: NDArray[Any], name: str) -> NDArray[np.float64]:
        return layer_norm(x, t(f"{name}.weight"), t(f"{name}.bias"), net.config.norm_epsilon)

    activation = ACTIVATIONS[net.config.activation]
    x_BTE = net.tensors["wte.weight"][tokens_BT] + t("wpe.weight")[past : past + length]
    for layer in range(net.config.layers):
        p = f"h.{layer}."

        def linear(x: NDArray[Any], name: str, p: str = p) -> NDArray[np.float64]:
            return np.asarray(x @ t(f"{p}{name}.weight") + t(f"{p}{name}.bias"))

        normed = norm(x_BTE, p + "ln_1")
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
        active = activation(linear(norm(x_BTE, p + "ln_2"), "mlp.c_fc"))
        x_BTE = x_BTE + linear(active, "mlp.c_proj")
    return np.asarray(norm(x_BTE, "ln_f") @ t(net.config.output).T)
