"""Distillation: what a trained baseline says of the training images, as soft targets.

A trick that the paper does not use; runs with it are shown as such. The teacher is asked once,
before the first step: its probabilities are averaged over VIEWS random crops and mirrors of each
image (Hinton, Vinyals, Dean, 2015, arXiv 1503.02531, at temperature 1). Shape legend: N images,
L classes.
"""

from pathlib import Path

import torch
from torch import Tensor

from luminanet.errors import ConfigError
from training.baselines.registry import Baseline, thaw
from training.batches import ImageSource, scale
from training.checkpoint import load_baseline

VIEWS = 4
BATCH = 500


def load(path: Path) -> Baseline:
    """Raises ConfigError when there is no such file, CheckpointError when it is no baseline."""
    if not path.is_file():
        raise ConfigError(
            f"the teacher {path} is not there: train it first with "
            "`python -m training.train --preset resnet18-1m`, or name another with --teacher"
        )
    return thaw(load_baseline(path).net)


def answers(teacher: Baseline, source: ImageSource, device: torch.device) -> Tensor:
    """The teacher's mean probabilities for all images that `source` trains on, [N, L]."""
    generator = torch.Generator().manual_seed(source.config.seed)
    teacher.to(device).eval()
    found = []
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        for padded in torch.split(source.padded, BATCH):
            views = [scale(source.crop(padded, generator)).to(device) for _ in range(VIEWS)]
            chances = [teacher(view).float().softmax(-1).cpu() for view in views]
            found.append(torch.stack(chances).mean(0))
    return torch.cat(found)
