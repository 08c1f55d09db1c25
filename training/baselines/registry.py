"""Name -> image network: what LuminaNet is compared with on CIFAR-10, and in which sizes.

Shape legend: B batch, C channels, Y rows, X columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from luminanet.errors import CheckpointError, ConfigError
from luminanet.frozen import Array
from training.baselines.alexnet import AlexNet
from training.baselines.deit import Deit
from training.baselines.lenet5 import LeNet5
from training.baselines.mlp_mixer import MlpMixer
from training.baselines.mobilevit import MobileVit
from training.baselines.resmlp import ResMlp
from training.baselines.resnet import ResNet18
from training.checkpoint import BaselineNet

BASELINES: dict[str, Callable[[], nn.Module]] = {
    "lenet5": LeNet5,
    "alexnet": AlexNet,
    "mlp-mixer": MlpMixer,
    "resmlp": ResMlp,
    "deit-tiny": Deit,
    "mobilevit": MobileVit,
    "resnet18": ResNet18,
    # At most as large as LuminaNet (1.15 M): a quarter of Mixer-S's width, the size of
    # omihub777/MLP-Mixer-CIFAR; a third of ResMLP-S's; half of DeiT-Ti's, with its heads; a quarter
    # of ResNet-18's.
    "mlp-mixer-1m": partial(MlpMixer, width=128, token_hidden=64, channel_hidden=512),
    "resmlp-1m": partial(ResMlp, width=128, depth=8),
    "deit-1m": partial(Deit, width=96, depth=10),
    "resnet18-1m": partial(ResNet18, width=16),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network of BASELINES and the mean and deviation per channel that its images get."""

    network: str
    mean_C: Array
    std_C: Array

    def __post_init__(self) -> None:
        if self.network not in BASELINES:
            raise ConfigError(f"network {self.network!r} is none of {sorted(BASELINES)}")


class Baseline(nn.Module):
    """Images [B, 3, 32, 32] in 0..1 -> logits [B, 10]; `seed` draws the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        super().__init__()
        self.name = recipe.network
        self.register_buffer("mean", torch.from_numpy(np.array(recipe.mean_C))[:, None, None])
        self.register_buffer("std", torch.from_numpy(np.array(recipe.std_C))[:, None, None])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = BASELINES[recipe.network]()

    def forward(self, images_BCYX: Tensor) -> Tensor:
        logits: Tensor = self.network((images_BCYX - self.mean) / self.std)
        return logits

    def freeze(self) -> BaselineNet:
        tensors = {name: t.detach().cpu().clone() for name, t in self.state_dict().items()}
        return BaselineNet(self.name, tensors)


def thaw(net: BaselineNet) -> Baseline:
    """The module of a checkpoint. Raises CheckpointError when the tensors are not its own."""
    nothing = np.ones(3, np.float32)
    try:
        model = Baseline(Recipe(net.network, nothing, nothing))
        model.load_state_dict(dict(net.tensors))
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"{net.network}: {error}: train it again") from error
    return model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, size: int = 32) -> int:
    """Multiply-accumulates per image of matrix products, attention's too, and convolutions."""
    image = torch.zeros(1, 3, size, size, device=next(model.parameters()).device)
    training = model.training
    counter = FlopCounterMode(display=False)
    # The fused attention of the CPU is not counted; its plain form is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model.eval()(image)
    model.train(training)
    return counter.get_total_flops() // 2
