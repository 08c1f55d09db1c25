"""What the papers share: patches, the two-layer perceptron, and the Transformer block of ViT.

Shape legend: B batch, C channels, Y rows, X columns, T tokens, E width, H heads, D = E / H.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class Patches(nn.Module):
    """Images [B, C, Y, X] -> [B, T, E]: every patch flattened and projected."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, width, patch, patch)

    def forward(self, images_BCYX: Tensor) -> Tensor:
        tokens_BET: Tensor = self.project(images_BCYX).flatten(2)
        return tokens_BET.transpose(1, 2)


class Mlp(nn.Sequential):
    """Linear, activation, linear, over the last axis."""

    def __init__(self, width: int, hidden: int, activation: Activation = nn.GELU) -> None:
        super().__init__(nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))


class Attention(nn.Module):
    """Multi-head self-attention of every token to every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        assert width % heads == 0
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x_BTE: Tensor) -> Tensor:
        batch, length, width = x_BTE.shape
        qkv = self.qkv(x_BTE).view(batch, length, 3, self.heads, width // self.heads)
        q_BHTD, k_BHTD, v_BHTD = qkv.permute(2, 0, 3, 1, 4)
        mixed_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD)
        out: Tensor = self.project(mixed_BHTD.transpose(1, 2).reshape(batch, length, width))
        return out


class Transformer(nn.Module):
    """One pre-norm block: attention, then the perceptron, each added to its input."""

    def __init__(
        self, width: int, heads: int, hidden: int, activation: Activation = nn.GELU
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden, activation)

    def forward(self, x_BTE: Tensor) -> Tensor:
        x_BTE = x_BTE + self.attention(self.norm_attention(x_BTE))
        out: Tensor = x_BTE + self.mlp(self.norm_mlp(x_BTE))
        return out


def truncated_normal(module: nn.Module) -> None:
    """Linear layers and patches as in ViT: normal(0, 0.02) cut at two deviations, biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
