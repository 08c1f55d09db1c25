"""The run: data -> batches -> steps, with evolution, progress, TensorBoard, and exact resume.

state.pt in the run's folder is what a second start resumes from; it is written every
`check_every` steps, CHECKS times in a run with a time limit, and when the run is interrupted. It
never holds weights that are no numbers.
"""

import json
import math
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from luminanet.artifact.files import replacing
from luminanet.errors import CheckpointError, ConfigError, DivergedError, Ended
from luminanet.frozen import FrozenNet
from training import checkpoint
from training.config import ImageConfig, RunConfig, TextConfig, TrainConfig
from training.data.batches import Batch, halves
from training.evolution.evolve import Event, event_steps, evolve
from training.model.network import Network
from training.model.whitening import fold
from training.precision import AUTO, native
from training.run.task import Task, build
from training.run.watch import board, stop_signals
from training.step.distributed import World
from training.step.trainer import Score, Trainer
from training.stored import completed
from training.torch_files import read_torch, write_torch

STATE = "state.pt"
CHECKPOINT = "ckpt.pt"
EVENTS = "evolution.jsonl"
SMOOTHING = 0.98
CHECKS = 10
IMPROVEMENT = 0.001
"""Of the held-out loss, relative: what a check must win over all before it to count as better."""


Config = TypeVar("Config", bound=RunConfig)


class Interrupted(Ended):
    """The run was asked to stop; its state is saved."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(number, f"saved at step {step}: run the same command again to resume")


def saved_in(out: Path) -> Mapping[str, Any] | None:
    """What a run in `out` left to resume from, if one did. Raises CheckpointError."""
    path = out / STATE
    if not path.exists():
        return None
    raw = read_torch(path)
    if not isinstance(raw.get("config"), dict):
        raise CheckpointError(f"{path} is not the state of a run: choose another --out")
    try:
        return raw | {"config": completed(raw["config"])}
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot go on: {error}") from error


def settled(
    config: TrainConfig,
    saved: Mapping[str, Any] | None,
    device: torch.device,
    world: World = World(),  # noqa: B008 - immutable
) -> TrainConfig:
    """With what was begun with (`as_begun`), and the precision `auto` made one: that of the run
    that goes on, if one does, else the faster one on `device`. All processes of a world take that
    of the first."""
    config = as_begun(config, saved)
    if config.precision != AUTO:
        return config
    chosen = saved["config"]["precision"] if saved else native(device)
    return replace(config, precision=world.from_first(chosen))


def as_begun(config: Config, saved: Mapping[str, Any] | None) -> Config:
    """With the held-out images of the run that goes on: one of an earlier version, where every seed
    had its own, keeps them. To ask before data are prepared."""
    if saved is None or not isinstance(config, ImageConfig):
        return config
    before = saved["config"]
    if before["split_seed"] is not None:
        return config
    return replace(config, split_seed=None, held_out=before["held_out"])


class Run:
    """One training run in one folder."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        out: Path,
        device: torch.device,
        command: str,
        world: World = World(),  # noqa: B008 - immutable
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        """Goes on from `saved`, else from what is in `out`. Raises CheckpointError where that is
        not of this run."""
        saved = saved or saved_in(out)
        config = settled(config, saved, device, world)
        self.config, self.task, self.out, self.command = config, task, out, command
        self.world = world
        self.history: list[Event] = []
        self.events_done = 0
        self.checks: list[tuple[int, float]] = []
        """(step, held-out loss) so far."""
        self.saved_at = 0
        """The step of the state that is saved, if one is."""
        self.trainer = Trainer(build(task, config), config, device, world, task.teacher)
        if saved:
            self._resume(saved)

    # ------------------------------------------------------------------ state

    def _resume(self, saved: Mapping[str, Any]) -> None:
        path = self.out / STATE
        if odd := self.config.differing(saved["config"]):
            raise CheckpointError(
                f"{path} belongs to a run with other settings ({', '.join(odd)}): "
                "give them again to resume it, or choose another --out"
            )
        with checkpoint.damage(path):
            self._take(saved)
        self.saved_at = self.trainer.step

    def _take(self, raw: Mapping[str, Any]) -> None:
        """Goes on from a saved state."""
        if raw["net"] is not None:
            frozen = checkpoint.unpack_net(raw["net"])
            task = replace(self.task, first_net=frozen)
            self.trainer.use(build(task, self.config))
        self.trainer.restore(raw["trainer"])
        self.history = [Event(**event) for event in json.loads(raw["history"])]
        self.events_done = raw["events_done"]
        self.checks = [(step, loss) for step, loss in raw["checks"]]
        self.trainer.seconds = raw["seconds"]

    def _state(self) -> dict[str, Any]:
        model = self.trainer.model
        return {
            "config": self.config.to_dict(),
            "net": checkpoint.pack_net(model.freeze()) if isinstance(model, Network) else None,
            "trainer": self.trainer.state(),
            "history": json.dumps([event.to_dict() for event in self.history]),
            "events_done": self.events_done,
            "checks": self.checks,
            "seconds": self.trainer.seconds,
        }

    def save(self) -> None:
        """Raises DivergedError rather than lose what was saved before."""
        self._check_weights()
        if self.world.is_first:
            write_torch(self.out / STATE, self._state())
        self.saved_at = self.trainer.step

    def _check_weights(self) -> None:
        """Raises DivergedError, in all processes of a world, where weights are no numbers."""
        if not self.trainer.is_finite:
            raise self._diverged("weights that are no numbers")

    def _diverged(self, what: str) -> DivergedError:
        kept = f"{self.out / STATE} of step {self.saved_at}" if self.saved_at else "nothing"
        return DivergedError(
            f"diverged: {what} after step {self.trainer.step}; kept is {kept}: begin again with a "
            "lower --learning-rate or a longer --warmup, in another --out"
        )

    # ------------------------------------------------------------------ training

    def train(self) -> Path:
        """To the end; returns the checkpoint. Raises Interrupted after SIGINT or SIGTERM, and
        DivergedError when the loss is no number any more."""
        events = [step / self.config.steps for step in event_steps(self.config)]
        loss = 0.0
        device, first = self.trainer.device, self.world.is_first
        with stop_signals() as asked, board(self.out, first) as writer, self.progress() as bar:
            while (done := self.trainer.done) < 1:
                started = time.monotonic()
                if self.events_done < len(events) and events[self.events_done] <= done:
                    self._evolve(writer)
                if self.config.compile and self.events_done == len(events):
                    self.trainer.compile()
                batch = self.task.source.batch(self.trainer.step)
                now = self.trainer.train(self.world.share(batch))
                loss = now if loss == 0.0 else SMOOTHING * loss + (1 - SMOOTHING) * now
                self.trainer.seconds += time.monotonic() - started
                bar.update(self.task.source.units_per_step)
                bar.set_postfix_str(f"loss {loss:.3f}{self.note}", refresh=False)
                writer.add_scalar("loss/train", now, self.trainer.step)
                mine = (bool(asked), not math.isfinite(now), self.trainer.seconds)
                stop, lost, self.trainer.seconds = self.world.agree(mine, device)
                if lost:
                    raise self._diverged(f"a loss of {now}")
                if self._check_is_due(done):
                    self._check(writer)
                if stop:
                    self.save()
                    raise Interrupted([*asked, signal.SIGTERM][0], self.trainer.step)
        self.save()
        return self._finish() if first else self.out / CHECKPOINT

    note = ""

    def _evolve(self, writer: Any) -> None:
        """Rank 0 evolves, the others take over what came of it."""
        self._check_weights()
        if not self.world.is_first:
            self._take(self.world.from_first(None))
            return
        assert self.config.evolution is not None
        settings, number = self.config.evolution, self.events_done
        tried = evolve(self.trainer, self.task.source, settings, self.history, number)
        self.history += tried
        self.events_done += 1
        if self.world.size > 1:
            self.world.from_first(self._state())
        lines = [json.dumps(event.to_dict()) + "\n" for event in self.history]
        with replacing(self.out / EVENTS) as file:
            file.write("".join(lines).encode())
        for name in ("clusters", "connections", "parameters"):
            if tried:
                writer.add_scalar(f"network/{name}", getattr(tried[-1], name), self.trainer.step)

    def _check_is_due(self, done_before: float) -> bool:
        by_time = int(CHECKS * self.trainer.done) > int(CHECKS * done_before)
        by_steps = self.trainer.step % self.config.check_every == 0
        return by_steps or (by_time and self.config.seconds > 0)

    def score(self) -> Score:
        with self.trainer.averaged(self.task.source):
            return self.trainer.score(self.unseen)

    @property
    def unseen(self) -> list[Batch]:
        """The held-out data that chose nothing: of a run with a selection, the other half."""
        held_out, evolution = self.task.source.held_out, self.config.evolution
        return halves(held_out)[1] if evolution and evolution.selected else held_out

    def _check(self, writer: Any) -> None:
        if not self.world.is_first:
            self.save()
            return
        score = self.score()
        self.checks.append((self.trainer.step, score.loss))
        writer.add_scalar("loss/held_out", score.loss, self.trainer.step)
        if isinstance(self.config, TextConfig):
            writer.add_scalar("perplexity/held_out", score.perplexity, self.trainer.step)
            self.note = f", perplexity {score.perplexity:.2f}"
        else:
            writer.add_scalar("accuracy/held_out", score.accuracy, self.trainer.step)
            self.note = f", accuracy {score.accuracy:.1%}"
        self.save()

    def progress(self) -> "tqdm[Any]":
        units = self.task.source.units_per_step
        return tqdm(
            total=None if self.config.seconds else self.config.steps * units,
            initial=self.trainer.step * units,
            unit=f" {self.task.source.unit}",
            unit_scale=True,
            mininterval=1.0,
            desc=self.config.preset,
            disable=not self.world.is_first,
        )

    def _finish(self) -> Path:
        with self.trainer.averaged(self.task.source):
            score = self.trainer.score(self.unseen)
            if not math.isfinite(score.loss):
                raise self._diverged(f"a held-out loss of {score.loss}")
            figures = self._figures(score)
            net = self.trainer.model.freeze()
        if isinstance(net, FrozenNet):
            net = fold(net, self.task.white)
        name = f"{self.config.model.name}-{self.config.data_set.value}"
        labels, path = self.task.labels, self.out / CHECKPOINT
        done: checkpoint.Checkpoint | checkpoint.BaselineCheckpoint
        if isinstance(net, checkpoint.BaselineNet):
            done = checkpoint.BaselineCheckpoint(name, net, labels, figures, self.command)
        else:
            words = self.task.tokenizer
            done = checkpoint.Checkpoint(name, net, words, labels, figures, self.command)
        checkpoint.save(path, done)
        return path

    def _figures(self, score: Score) -> dict[str, float]:
        step = self.trainer.step
        measure = (
            {"held_out_perplexity": score.perplexity}
            if isinstance(self.config, TextConfig)
            else {"held_out_accuracy": score.accuracy}
        )
        figures = {
            "held_out_loss": score.loss,
            **measure,
            "steps": step,
            "examples": step * self.task.source.units_per_step,
            "training_seconds": round(self.trainer.seconds, 1),
        }
        if self.config.seconds and step < self.config.steps:
            before = [loss for at, loss in self.checks if at < step]
            best = min(before, default=float("inf"))
            figures["still_improving"] = float(score.loss < best * (1 - IMPROVEMENT))
        return figures
