"""ResMLP: Touvron et al., "ResMLP: Feedforward networks for image classification with
data-efficient training", 2021, arXiv 2105.03404.

Defaults: the paper's S12 on patches of 4x4, the usual choice for 32x32 pixels, which gives 64
tokens; 14.3 M parameters. Shape legend: B batch, T tokens, E width.
"""

import torch
from torch import Tensor, nn

from training.baselines.blocks import Mlp, Patches, truncated_normal

LAYER_SCALE = 0.1
"""Start of the residual branches' scale, the paper's for up to 18 layers."""


class Affine(nn.Module):
    """A scale and a shift per channel, which stand where others normalise (equation 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x_BTE: Tensor) -> Tensor:
        return torch.addcmul(self.shift, self.scale, x_BTE)


class Layer(nn.Module):
    """A linear layer across the patches, then a perceptron in each (equations 2 and 3)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.affine_patches = Affine(width)
        self.across_patches = nn.Linear(tokens, tokens)
        self.scale_patches = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.affine_channels = Affine(width)
        self.across_channels = Mlp(width, 4 * width)
        self.scale_channels = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(self, x_BTE: Tensor) -> Tensor:
        across: Tensor = self.across_patches(self.affine_patches(x_BTE).transpose(1, 2))
        x_BTE = x_BTE + self.scale_patches * across.transpose(1, 2)
        out: Tensor = self.across_channels(self.affine_channels(x_BTE))
        return x_BTE + self.scale_channels * out


class ResMlp(nn.Module):
    def __init__(
        self, width: int = 384, depth: int = 12, patch: int = 4, size: int = 32, classes: int = 10
    ) -> None:
        super().__init__()
        tokens = (size // patch) ** 2
        self.patches = Patches(patch, width)
        self.layers = nn.Sequential(*(Layer(tokens, width) for _ in range(depth)))
        self.affine = Affine(width)
        self.head = nn.Linear(width, classes)
        truncated_normal(self)

    def forward(self, images_BCYX: Tensor) -> Tensor:
        x_BTE: Tensor = self.affine(self.layers(self.patches(images_BCYX)))
        logits: Tensor = self.head(x_BTE.mean(1))
        return logits
