"""A GPT-2-style Transformer, one layer by default; the same numbers as luminanet.gpt2.

Parameters carry the names of luminanet.gpt2.Gpt2Config.shapes, with "." written as "__".
Shape legend: B batch, T tokens, E width, V vocabulary.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.gpt2 import GELU_TANH, Gpt2Config, Gpt2Net
from luminanet.topology import Activation

DEVIATION, WIDTH = 0.02, 768
"""Of the first weights of GPT-2, and the least width of a GPT-2."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    GELU_TANH: partial(F.gelu, approximate="tanh"),
    Activation.GELU: F.gelu,
    Activation.RELU: F.relu,
    Activation.SILU: F.silu,
    Activation.TANH: torch.tanh,
}


def fitting(width: int) -> float:
    """The deviation of first weights with which sums over `width` numbers spread as they do over
    768 with that of GPT-2. Narrow ones with 0.02 learn late (benchmarks/tinystories/tuning.md)."""
    return DEVIATION * math.sqrt(WIDTH / width)


class Gpt2(nn.Module):
    """Initialised as GPT-2 was: normal(0, 0.02), residual projections / sqrt(2 layers).

    Logits, gradients and spread of the first weights are those of transformers' GPT2LMHeadModel
    (the first release drew positions from normal(0, 0.01)). That drops 10 % of the weights of
    attention too; here `dropout` is of embeddings and residual branches.
    """

    def __init__(
        self, config: Gpt2Config, seed: int, dropout: float = 0.0, deviation: float = DEVIATION
    ) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        generator = torch.Generator().manual_seed(seed)
        for name, shape in config.shapes().items():
            value = torch.zeros(shape)
            if ".ln_" in name or name.startswith("ln_f"):
                value = torch.ones(shape) if name.endswith("weight") else value
            elif name.endswith("weight"):
                residual = name.endswith("c_proj.weight")
                scale = math.sqrt(2 * config.layers) if residual else 1.0
                value.normal_(0, deviation / scale, generator=generator)
            self.register_parameter(name.replace(".", "__"), nn.Parameter(value))

    def get(self, name: str) -> Tensor:
        return self.get_parameter(name.replace(".", "__"))

    def freeze(self) -> Gpt2Net:
        tensors = {name: self.get(name).detach().float().cpu() for name in self.config.shapes()}
        return Gpt2Net(self.config, {name: t.numpy().copy() for name, t in tensors.items()})

    @classmethod
    def thaw(cls, net: Gpt2Net) -> "Gpt2":
        """The module with the weights of `net`."""
        model = cls(net.config, seed=0)
        with torch.no_grad():
            for name, tensor in net.tensors.items():
                model.get(name).copy_(torch.from_numpy(tensor))
        return model

    @property
    def vocabulary(self) -> Tensor:
        """The output layer, [V, E]: the embedding again, where the two are tied."""
        return self.get(self.config.output)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        return F.linear(self.features(tokens_BT), self.vocabulary)

    def features(self, tokens_BT: Tensor) -> Tensor:
        """What comes before the output layer, [B, T, E]."""
        length = tokens_BT.shape[1]
        x_BTE = F.embedding(tokens_BT, self.get("wte.weight")) + self.get("wpe.weight")[:length]
        x_BTE = self.drop(x_BTE)
        for layer in range(self.config.layers):
            p = f"h.{layer}."
            x_BTE = x_BTE + self.drop(self.attention(self.norm(x_BTE, p + "ln_1"), p))
            hidden = ACTIVATIONS[self.config.activation](
                self.linear(self.norm(x_BTE, p + "ln_2"), p + "mlp.c_fc")
            )
            x_BTE = x_BTE + self.drop(self.linear(hidden, p + "mlp.c_proj"))
        return self.norm(x_BTE, "ln_f")

    def attention(self, x_BTE: Tensor, p: str) -> Tensor:
        batch, length, width = x_BTE.shape
        q, k, v = (
            part.view(batch, length, self.config.heads, -1).transpose(1, 2)
            for part in self.linear(x_BTE, p + "attn.c_attn").chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.linear(mixed.transpose(1, 2).reshape(batch, length, width), p + "attn.c_proj")

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.get(f"{name}.weight").t(), self.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        scale, bias = self.get(f"{name}.weight"), self.get(f"{name}.bias")
        return F.layer_norm(x, scale.shape, scale, bias, self.config.norm_epsilon)

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
