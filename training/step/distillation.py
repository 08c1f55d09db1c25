"""Distillation: what a trained baseline says of the training data, as soft targets.

A trick that the paper does not use; runs with it are shown as such (Hinton, Vinyals, Dean, 2015,
arXiv 1503.02531, at temperature 1). The teacher of an image network is asked once, before the
first step: its probabilities are averaged over VIEWS random crops and mirrors of each image. The
teacher of a text network reads every batch along with it (trainer.py), because its answers to all
tokens would fill the disk. Shape legend: N images, L classes.
"""

from pathlib import Path

import torch
from torch import Tensor

from luminanet.errors import ConfigError
from luminanet.gpt2 import Gpt2Net
from luminanet.tokenizer import Tokenizer
from training.baselines.gpt2 import Gpt2
from training.baselines.registry import Baseline, thaw
from training.checkpoint import load as load_checkpoint
from training.checkpoint import load_baseline
from training.data.batches import ImageSource, scale
from training.precision import AUTO, dtype_of, products

VIEWS = 4
BATCH = 500


def load(path: Path) -> Baseline:
    """The teacher of an image network. Raises ConfigError when there is no such file,
    CheckpointError when it is no baseline."""
    _check(path, "resnet18-1m")
    return thaw(load_baseline(path).net)


def load_text(path: Path, tokenizer: Tokenizer, context: int) -> Gpt2:
    """The teacher of a text network: a GPT-2 of the same tokens that sees as many of them.

    Raises ConfigError when there is no such file or when it does not fit.
    """
    _check(path, "gpt2-teacher")
    found = load_checkpoint(path)
    if not isinstance(found.net, Gpt2Net):
        raise ConfigError(f"{path} is no GPT-2: give another --teacher")
    if found.tokenizer != tokenizer.to_json():
        raise ConfigError(
            f"{path} has other tokens than this run: train both with the same --tokenizer"
        )
    if found.net.config.context < context:
        raise ConfigError(
            f"{path} reads {found.net.config.context} tokens and this run {context}: "
            "lower --context"
        )
    return Gpt2.thaw(found.net)


def _check(path: Path, preset: str) -> None:
    if not path.is_file():
        raise ConfigError(
            f"the teacher {path} is not there: train it first with "
            f"`python -m training.train --preset {preset}`, or name another with --teacher"
        )


def answers(
    teacher: Baseline, source: ImageSource, device: torch.device, precision: str = AUTO
) -> Tensor:
    """The teacher's mean probabilities for all images that `source` trains on, [N, L]."""
    generator = torch.Generator().manual_seed(source.config.seed)
    teacher.to(device).eval()
    found = []
    with torch.no_grad(), products(device, dtype_of(device, precision)):
        for padded in torch.split(source.padded, BATCH):
            views = [scale(source.crop(padded, generator)).to(device) for _ in range(VIEWS)]
            chances = [teacher(view).float().softmax(-1).cpu() for view in views]
            found.append(torch.stack(chances).mean(0))
    return torch.cat(found)
