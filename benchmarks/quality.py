"""Logits and right answers -> figures. Shape legend: B batch, V classes or vocabulary."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luminanet.artifact.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one artifact; accuracies are shares, loss is in nats per image or token."""

    name: str
    parameters: int
    macs: int
    examples: int
    loss: float
    top1: float
    top5: float
    bits_per_byte: float = 0.0

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)


class Tally:
    """Adds up loss and hits of logits [B, V] against the right answers [B]."""

    def __init__(self) -> None:
        self.count, self.nats, self.first, self.five = 0, 0.0, 0, 0

    def add(self, logits_BV: NDArray[np.float32], right_B: NDArray[np.int64]) -> None:
        logits = logits_BV.astype(np.float64)
        highest = logits.max(1, keepdims=True)
        total = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
        chosen = np.take_along_axis(logits, right_B[:, None], 1)
        better = (logits > chosen).sum(1)
        self.nats += float((total - chosen[:, 0]).sum())
        self.first += int((better < 1).sum())
        self.five += int((better < 5).sum())
        self.count += len(right_B)

    def quality(self, manifest: Manifest, text_bytes: float = 0.0) -> Quality:
        return Quality(
            name=manifest.name,
            parameters=manifest.parameters,
            macs=manifest.macs,
            examples=self.count,
            loss=self.nats / self.count,
            top1=self.first / self.count,
            top5=self.five / self.count,
            bits_per_byte=self.nats / math.log(2) / text_bytes if text_bytes else 0.0,
        )
