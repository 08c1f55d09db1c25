"""MobileViT: Mehta, Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly
Vision Transformer", 2021, arXiv 2110.02178.

Defaults: XXS (Table 4), the paper's size nearest to LuminaNet's. Two of its five halvings (the
stem's and the next) are left out, as is usual for 32x32 pixels: maps of 32, 32, 16, 8 and 4, so
that the last Transformer still has four tokens in each of the 2x2 places. 0.95 M parameters.
Shape legend: B batch, C channels, Y rows, X columns, P places of a patch, T patches, E width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.baselines.blocks import Transformer

EXPANSION = 2
HEADS = 4
PATCH = 2


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, SiLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (arXiv 1801.04381), "MV2" in the paper: widen, filter, narrow."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        hidden = EXPANSION * inputs
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            convolution(inputs, hidden, 1),
            convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x_BCYX: Tensor) -> Tensor:
        out: Tensor = self.layers(x_BCYX)
        return x_BCYX + out if self.residual else out


class MobileVitBlock(nn.Module):
    """Convolutions see what is near; a Transformer across the patches sees what is far (3.1)."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.near = nn.Sequential(
            convolution(channels, channels, 3), nn.Conv2d(channels, width, 1, bias=False)
        )
        self.far = nn.Sequential(
            *(Transformer(width, HEADS, 2 * width, nn.SiLU) for _ in range(depth)),
            nn.LayerNorm(width),
        )
        self.back = convolution(width, channels, 1)
        self.fuse = convolution(2 * channels, channels, 3)

    def forward(self, x_BCYX: Tensor) -> Tensor:
        near_BEYX: Tensor = self.near(x_BCYX)
        batch, width, height, _ = near_BEYX.shape
        tokens_BEPT = F.pixel_unshuffle(near_BEYX, PATCH).view(batch, width, PATCH**2, -1)
        tokens_BPTE = tokens_BEPT.permute(0, 2, 3, 1)
        far_BPTE = self.far(tokens_BPTE.flatten(0, 1)).view(tokens_BPTE.shape)
        far = far_BPTE.permute(0, 3, 1, 2).reshape(batch, -1, height // PATCH, height // PATCH)
        back_BCYX = self.back(F.pixel_shuffle(far, PATCH))
        out: Tensor = self.fuse(torch.cat([x_BCYX, back_BCYX], 1))
        return out


class MobileVit(nn.Sequential):
    """`strides` of the stem and of the second stage: (2, 2) in the paper, at 256 pixels."""

    def __init__(self, strides: tuple[int, int] = (1, 1), classes: int = 10) -> None:
        super().__init__(
            convolution(3, 16, 3, strides[0]),
            InvertedResidual(16, 16),
            InvertedResidual(16, 24, strides[1]),
            InvertedResidual(24, 24),
            InvertedResidual(24, 24),
            InvertedResidual(24, 48, 2),
            MobileVitBlock(48, width=64, depth=2),
            InvertedResidual(48, 64, 2),
            MobileVitBlock(64, width=80, depth=4),
            InvertedResidual(64, 80, 2),
            MobileVitBlock(80, width=96, depth=3),
            convolution(80, 320, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(320, classes),
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")
            elif isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
