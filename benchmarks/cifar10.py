"""`python -m benchmarks.cifar10 --data DIR`: LuminaNet against the networks of its paper.

Trains every network with every seed by the command and data of `training.train`, looks at the test
set once when a run is finished, and writes benchmarks/cifar10.md and .json (or what --name says)
after every run. What is already in --out is not done again: an interrupted run resumes, a finished
one is read. With --seconds, every network gets that much training time instead of the preset's
steps; what had too little of it is marked. --recipes says with which augmentation and
regularisation all of them train (RECIPES).

Accuracies are of the averaged weights in float32 on one view of each image.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import runs
from benchmarks.margins import Result, write
from benchmarks.quality import Tally
from benchmarks.report import provenance
from luminanet.cost.macs import macs as topology_macs
from luminanet.errors import ConfigError
from luminanet.frozen import FrozenNet
from training import checkpoint
from training.baselines import registry
from training.config import LEARNING_RATES, ImageBaseline, ImageConfig
from training.data.batches import ImageSource, scale
from training.data.datasets import Images, load_images, resolve
from training.model.network import Network
from training.presets import IMAGE_PRESETS
from training.run.run import Run
from training.run.task import prepare
from training.train import command_of

HERE = Path(__file__).parent
NETWORKS = ("cifar10", *LEARNING_RATES)
RESULT = "result.json"
BATCH = 250
RECIPES: dict[str, dict[str, Any]] = {
    "mixup": {},
    "plain": {"mixup": 0.0, "smoothing": 0.0},
    "bare": {"mixup": 0.0, "smoothing": 0.0, "augment": False},
}
"""What a recipe changes in every preset."""


# ---------------------------------------------------------------------- one run


def finish(
    config: ImageConfig,
    out: Path,
    folder: Path | None,
    device: torch.device,
    preset: ImageConfig | None = None,
    how: str = "",
) -> Result:
    """Trains what is not trained yet and tests what is not tested yet. `preset` is what the run is
    a change of, and `how` the command that trains it: by default, those of its name.

    Raises ConfigError when `out` holds a run with other settings, Interrupted after a signal.
    """
    path, config = out / RESULT, runs.going_on(config, out)
    if raw := runs.stored(path, config):
        return Result(**raw)
    task = prepare(config, folder, None)
    assert isinstance(task.source, ImageSource)
    trained = Run(config, task, out, device, how or command(config)).train()
    preset, test = preset or IMAGE_PRESETS[config.preset], load_images(folder, "test")
    result = judge(config, preset, trained, test, len(task.source.labels), device)
    runs.store(path, config, asdict(result))
    return result


def judge(
    config: ImageConfig,
    preset: ImageConfig,
    path: Path,
    test: Images,
    trained_on: int,
    device: torch.device,
) -> Result:
    """The figures of a checkpoint on the test set; it was trained on `trained_on` images."""
    model, figures, parameters, macs = read(config, path)
    tally = tested(model, test, device)
    return Result(
        network=config.preset,
        recipe=recipe_of(config, preset),
        seed=config.seed,
        parameters=parameters,
        macs=macs,
        top1=tally.first / tally.count,
        top5=tally.five / tally.count,
        loss=tally.nats / tally.count,
        epochs=figures["examples"] / trained_on,
        training_seconds=figures["training_seconds"],
        converged=converged(preset, figures),
    )


def recipe_of(config: ImageConfig, preset: ImageConfig) -> str:
    """The recipe that made `config` of its preset; "other" when none of them did."""
    names = ("mixup", "smoothing", "augment")
    for recipe, changes in RECIPES.items():
        if all(getattr(config, n) == changes.get(n, getattr(preset, n)) for n in names):
            return recipe
    return "other"


def tested(model: nn.Module, test: Images, device: torch.device) -> Tally:
    """Loss and hits of a network on images, in float32."""
    tally = Tally()
    model.to(device).eval()
    pixels = torch.from_numpy(test.pixels_NCYX)
    with torch.no_grad():
        for start in range(0, len(test), BATCH):
            part = slice(start, start + BATCH)
            logits = model(scale(pixels[part]).to(device))
            tally.add(logits.cpu().numpy(), test.labels_N[part])
    return tally


def converged(preset: ImageConfig, figures: Mapping[str, float]) -> bool:
    """Whether a run had the images of its preset and, at a time limit, had stopped improving.

    The second alone is not enough: the cosine brings every run to rest, however short it was.
    """
    enough = figures["examples"] >= preset.steps * preset.batch
    return enough and not figures.get("still_improving")


def read(config: ImageConfig, path: Path) -> tuple[nn.Module, dict[str, float], int, int]:
    """Module, figures of training, parameters, multiply-accumulates per image."""
    if isinstance(config.model, ImageBaseline):
        found = checkpoint.load_baseline(path)
        model = registry.thaw(found.net)
        return model, dict(found.figures), registry.parameters(model), registry.macs(model)
    ours = checkpoint.load(path)
    assert isinstance(ours.net, FrozenNet)
    topology = ours.net.topology
    return Network(ours.net), dict(ours.figures), topology.parameters, topology_macs(topology)


def command(config: ImageConfig) -> str:
    """What trains this run alone."""
    preset, words = IMAGE_PRESETS[config.preset], [f"--preset {config.preset}"]
    for name in ("seed", "steps", "batch", "seconds", "check_every", "mixup", "smoothing"):
        value = getattr(config, name)
        if value != getattr(preset, name):
            words.append(f"--{name.replace('_', '-')} {value}")
    if not config.augment:
        words.append("--no-augment")
    return " ".join(["python -m training.train", *words])


# ---------------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    options = runs.parser("cifar10", __doc__, seeds="0")
    options.add_argument("--networks", default=",".join(NETWORKS), help="presets, with commas")
    options.add_argument("--recipes", default="mixup", help=f"of {', '.join(RECIPES)}")
    options.add_argument("--name", default="cifar10", help="of the report, without its ending")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    return options


def configure(arguments: argparse.Namespace) -> list[ImageConfig]:
    """Every run, seed by seed, so that a first column of the table is there early."""
    return [
        runs.budgeted(replace(_preset(name), seed=seed, **_recipe(recipe)), arguments)
        for seed in runs.seeds_of(arguments)
        for recipe in dict.fromkeys(arguments.recipes.split(","))
        for name in dict.fromkeys(arguments.networks.split(","))
    ]


def _preset(name: str) -> ImageConfig:
    if name not in IMAGE_PRESETS:
        raise ConfigError(f"--networks: {name!r} is none of {', '.join(sorted(IMAGE_PRESETS))}")
    return IMAGE_PRESETS[name]


def _recipe(name: str) -> dict[str, Any]:
    if name not in RECIPES:
        raise ConfigError(f"--recipes: {name!r} is none of {', '.join(RECIPES)}")
    return RECIPES[name]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)

    def work() -> str:
        folder, results, shown = resolve(arguments.data), list[Result](), ""
        for config in configure(arguments):
            recipe = recipe_of(config, IMAGE_PRESETS[config.preset])
            out = arguments.out / f"{config.preset}-{recipe}-seed{config.seed}"
            results.append(finish(config, out, folder, device))
            source = _source(argv, arguments, device)
            shown = write(results, arguments.report / arguments.name, source)
        return shown

    return runs.finished(work)


def _source(argv: list[str], arguments: argparse.Namespace, device: torch.device) -> str:
    command = command_of(argv, "benchmarks.cifar10")
    line = provenance(command, ("torch", "numpy"), arguments.seeds).removesuffix(".\n")
    if device.type == "cuda":
        return f"{line}; trained on {torch.cuda.get_device_name(device)}.\n"
    return f"{line}; {torch.get_num_threads()} thread(s) of torch.\n"


if __name__ == "__main__":
    sys.exit(main())
