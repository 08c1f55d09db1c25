"""One arm, trained -> its figures on the held-out images; the test set is never looked at."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import made
from benchmarks.topology.arms import Arm
from luminanet.cost.macs import macs
from training.config import ImageConfig
from training.data.batches import ImageSource
from training.data.datasets import Images, load_images, resolve
from training.presets import IMAGE_PRESETS
from training.run.run import Run
from training.run.task import Task, luminanet_task

CPU = torch.device("cpu")
PACKAGES = ("torch", "numpy")
CHECK_EVERY = 500
BASE = IMAGE_PRESETS["cifar10"].having(evolution=None)
"""The recipe of all arms: that of the preset, with nothing that evolves."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run; `curve` holds (step, held-out loss)."""

    choice: str
    name: str
    draw: int | None
    seed: int
    steps: int
    loss: float
    accuracy: float
    parameters: int
    macs: int
    clusters: int
    connections: int
    curve: tuple[tuple[int, float], ...]
    seconds: float
    made: str
    """Machine, versions and date."""

    @property
    def key(self) -> tuple[str, int | None, int, int]:
        return self.name, self.draw, self.seed, self.steps

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "Trained":
        curve = tuple((int(step), float(loss)) for step, loss in raw["curve"])
        return cls(**{**raw, "curve": curve})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run to do."""

    arm: Arm
    seed: int
    steps: int

    @property
    def key(self) -> tuple[str, int | None, int, int]:
        return self.arm.name, self.arm.draw, self.seed, self.steps

    @property
    def folder(self) -> str:
        return f"{self.arm.folder}-seed{self.seed}-{self.steps}"

    def config(self) -> ImageConfig:
        return replace(
            BASE, preset=self.folder, seed=self.seed, steps=self.steps, check_every=CHECK_EVERY
        )


def perform(wanted: Wanted, arguments: argparse.Namespace) -> Trained:
    """Trains, or goes on with, one run. Raises Interrupted after SIGINT or SIGTERM."""
    config = wanted.config()
    task = prepared(config, wanted, images(resolve(arguments.data)))
    run = Run(config, task, arguments.out / wanted.folder, CPU, wanted.folder)
    run.train()
    score, topology = run.score(), wanted.arm.topology
    return Trained(
        choice=wanted.arm.choice,
        name=wanted.arm.name,
        draw=wanted.arm.draw,
        seed=wanted.seed,
        steps=wanted.steps,
        loss=score.loss,
        accuracy=score.accuracy,
        parameters=sum(p.numel() for p in run.trainer.model.parameters()),
        macs=macs(topology),
        clusters=len(topology.clusters),
        connections=len(topology.connections),
        curve=tuple(run.checks),
        seconds=round(run.trainer.seconds, 1),
        made=made(PACKAGES),
    )


@cache
def images(folder: Path | None) -> Images:
    return load_images(folder, "train")


def prepared(config: ImageConfig, wanted: Wanted, images: Images) -> Task:
    """As training.run.task.prepare, from the arm's topology instead of a seeding's."""
    source = ImageSource(images, config, len(images.names))
    return luminanet_task(source, images, wanted.arm.topology, config)


def missing(wanted: Iterable[Wanted], known: Iterable[Trained]) -> list[Wanted]:
    done = {trained.key for trained in known}
    return [run for run in wanted if run.key not in done]
