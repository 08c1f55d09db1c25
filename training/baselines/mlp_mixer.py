"""MLP-Mixer: Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", 2021,
arXiv 2105.01601.

Defaults: the paper's S (Table 1) on patches of 4x4, the usual choice for 32x32 pixels, which
gives 64 tokens; 17.1 M parameters. Shape legend: B batch, T tokens, E width.
"""

from torch import Tensor, nn

from training.baselines.blocks import Mlp, Patches


class Mixer(nn.Module):
    """One layer: a perceptron across the tokens, then one across the channels (equation 1)."""

    def __init__(self, tokens: int, width: int, token_hidden: int, channel_hidden: int) -> None:
        super().__init__()
        self.norm_tokens = nn.LayerNorm(width)
        self.mix_tokens = Mlp(tokens, token_hidden)
        self.norm_channels = nn.LayerNorm(width)
        self.mix_channels = Mlp(width, channel_hidden)

    def forward(self, x_BTE: Tensor) -> Tensor:
        across: Tensor = self.mix_tokens(self.norm_tokens(x_BTE).transpose(1, 2))
        x_BTE = x_BTE + across.transpose(1, 2)
        out: Tensor = x_BTE + self.mix_channels(self.norm_channels(x_BTE))
        return out


class MlpMixer(nn.Module):
    """Weights of variance 1 / inputs; the output layer starts at zero, as in the paper's code."""

    def __init__(
        self,
        width: int = 512,
        depth: int = 8,
        token_hidden: int = 256,
        channel_hidden: int = 2048,
        patch: int = 4,
        size: int = 32,
        classes: int = 10,
    ) -> None:
        super().__init__()
        tokens = (size // patch) ** 2
        self.patches = Patches(patch, width)
        self.layers = nn.Sequential(
            *(Mixer(tokens, width, token_hidden, channel_hidden) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
                assert part.bias is not None
                nn.init.zeros_(part.bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, images_BCYX: Tensor) -> Tensor:
        x_BTE: Tensor = self.norm(self.layers(self.patches(images_BCYX)))
        logits: Tensor = self.head(x_BTE.mean(1))
        return logits
