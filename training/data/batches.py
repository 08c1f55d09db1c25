"""Arrays -> training batches, each a function of (seed, step) alone, so that a run can resume.

Shape legend: B batch, C channels, Y rows, X columns, T tokens, L classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from luminanet.errors import DataError
from training.config import ImageConfig, TextConfig
from training.data.datasets import Images, Tokens

PADDING = 4
HELD_OUT_BLOCKS = 64
HELD_OUT_IMAGES = 4000
HELD_OUT_TOKENS = 1_000_000
"""No more tokens are held out, however many there are."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`targets`: class or token ids, or (mixup, a teacher) class probabilities [B, L]."""

    inputs: Tensor
    targets: Tensor


def halves(batches: Iterable[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Every second example of each batch, and the others."""
    pairs = [[Batch(b.inputs[k::2], b.targets[k::2]) for k in range(2)] for b in batches]
    return [even for even, _ in pairs], [odd for _, odd in pairs if len(odd.inputs)]


class Source(Protocol):
    """Where batches come from; `unit` names what is counted for the speed."""

    unit: str
    units_per_step: int
    held_out: list[Batch]

    def batch(self, step: int) -> Batch: ...


class ImageSource:
    """CIFAR-10 with random crop, mirror and mixup; the last share of a permutation held out."""

    unit = "images"

    def __init__(self, images: Images, config: ImageConfig, classes: int) -> None:
        seed = config.seed if config.split_seed is None else config.split_seed
        order = np.random.default_rng(seed).permutation(len(images))
        held = round(len(images) * config.held_out)
        if held < 1 or len(images) - held < config.batch:
            raise DataError(
                f"{len(images)} images are too few for batches of {config.batch} and "
                f"{held} held out: lower --batch"
            )
        self.config, self.classes = config, classes
        self.units_per_step = config.batch
        train = images.part(order[held:])
        self.labels = torch.from_numpy(train.labels_N)
        self.padded = F.pad(torch.from_numpy(train.pixels_NCYX).float(), (PADDING,) * 4, "reflect")
        self.padded = self.padded.to(torch.uint8)
        self.taught_NL: Tensor | None = None
        """A teacher's probabilities for each training image (step/distillation.py)."""
        kept = images.part(order[:held][:HELD_OUT_IMAGES])
        self.held_out = [
            Batch(scale(torch.from_numpy(kept.pixels_NCYX[i : i + 500])), labels)
            for i in range(0, len(kept), 500)
            for labels in [torch.from_numpy(kept.labels_N[i : i + 500])]
        ]

    def batch(self, step: int) -> Batch:
        rows = self.rows(step)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        images = scale(self.crop(self.padded[rows], generator))
        targets = self.labels[rows]
        if self.taught_NL is not None:
            targets = self.hot(targets).lerp(self.taught_NL[rows], self.config.distill)
        if self.config.mixup and torch.rand(1, generator=generator).item() < 0.5:
            return self.mix(images, targets, step)
        return Batch(images, targets)

    def rows(self, step: int) -> Tensor:
        """Every epoch is a permutation of its own; the last incomplete batch is left out."""
        per_epoch = len(self.labels) // self.config.batch
        epoch, within = divmod(step, per_epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.labels))
        start = within * self.config.batch
        return torch.from_numpy(order[start : start + self.config.batch])

    def crop(self, padded: Tensor, generator: torch.Generator) -> Tensor:
        """A random window of each image, mirrored half of the time."""
        batch, channels, height, width = padded.shape
        size = height - 2 * PADDING
        offsets = torch.randint(0, 2 * PADDING + 1, (2, batch, 1), generator=generator)
        mirror = torch.rand(batch, 1, generator=generator) < 0.5
        if not self.config.augment:
            offsets, mirror = torch.full_like(offsets, PADDING), torch.zeros_like(mirror)
        along = torch.arange(size)[None]
        rows = offsets[0] + along
        columns = offsets[1] + torch.where(mirror, size - 1 - along, along)
        index = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, -1)
        flat = padded.view(batch, channels, -1).gather(2, index.expand(-1, channels, -1))
        return flat.view(batch, channels, size, size)

    def mix(self, images: Tensor, targets: Tensor, step: int) -> Batch:
        rng = np.random.default_rng([self.config.seed, step, 1])
        share = float(rng.beta(self.config.mixup, self.config.mixup))
        other = torch.from_numpy(rng.permutation(len(targets)))
        chances = targets if targets.is_floating_point() else self.hot(targets)
        mixed = chances.lerp(chances[other], 1 - share)
        return Batch(images.lerp(images[other], 1 - share), mixed)

    def hot(self, labels: Tensor) -> Tensor:
        """Class ids [B] -> probabilities [B, L]."""
        return F.one_hot(labels, self.classes).float()


class TextSource:
    """Random windows of `context` tokens; the last share of the stream is held out.

    Only the tokens of a batch are read, so the stream may be a mapped file of any size.
    """

    unit = "tokens"

    def __init__(self, tokens: Tokens, config: TextConfig) -> None:
        held = held_out_tokens(len(tokens), config)
        self.train_N = tokens.ids_N[:-held]
        if len(self.train_N) <= config.context + 1:
            raise DataError(
                f"{len(tokens)} tokens are too few for a context of {config.context}: "
                "lower --context"
            )
        self.config = config
        self.units_per_step = config.batch * config.context
        read = tokens.ids_N[-held:][: HELD_OUT_BLOCKS * config.context + 1]
        inputs, targets = blocks(torch.from_numpy(read.astype(np.int64)), config.context)
        self.held_out = [
            Batch(inputs[i : i + 8], targets[i : i + 8]) for i in range(0, len(inputs), 8)
        ]

    def batch(self, step: int) -> Batch:
        context = self.config.context
        rng = np.random.default_rng([self.config.seed, step])
        starts = rng.integers(0, len(self.train_N) - context - 1, self.config.batch)
        windows = [self.train_N[s : s + context + 1] for s in starts.tolist()]
        rows = torch.from_numpy(np.stack(windows).astype(np.int64))
        return Batch(rows[:, :-1], rows[:, 1:])


def held_out_tokens(count: int, config: TextConfig) -> int:
    """How many of `count` tokens, at their end, are never trained on."""
    share = min(round(count * config.held_out), HELD_OUT_TOKENS)
    return max(share, config.context + 1)


def scale(pixels: Tensor) -> Tensor:
    """Bytes -> 0..1."""
    return pixels.float() / 255


def blocks(ids: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Consecutive blocks [n, context] and the token that follows each of their positions."""
    n = (len(ids) - 1) // context
    return ids[: n * context].view(n, context), ids[1 : n * context + 1].view(n, context)
