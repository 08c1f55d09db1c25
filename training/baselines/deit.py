"""DeiT: Touvron et al., "Training data-efficient image transformers & distillation through
attention", 2020, arXiv 2012.12877.

Defaults: DeiT-Ti (Table 1) on patches of 4x4, the usual choice for 32x32 pixels, which gives 64
tokens and the class token; 5.36 M parameters. Without distillation, which needs a convolutional
teacher, and without stochastic depth: regularisation is the same for every network here.
Shape legend: B batch, T tokens, E width.
"""

import torch
from torch import Tensor, nn

from training.baselines.blocks import Patches, Transformer, truncated_normal


class Deit(nn.Module):
    def __init__(
        self,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        patch: int = 4,
        size: int = 32,
        classes: int = 10,
    ) -> None:
        super().__init__()
        tokens = (size // patch) ** 2
        self.patches = Patches(patch, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.layers = nn.Sequential(*(Transformer(width, heads, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        truncated_normal(self)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, images_BCYX: Tensor) -> Tensor:
        x_BTE: Tensor = self.patches(images_BCYX)
        first_BTE = self.class_token.expand(len(x_BTE), -1, -1)
        x_BTE = torch.cat([first_BTE, x_BTE], 1) + self.position
        logits: Tensor = self.head(self.norm(self.layers(x_BTE)[:, 0]))
        return logits
