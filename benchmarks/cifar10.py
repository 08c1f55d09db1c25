"""`python -m benchmarks.cifar10 --data DIR`: LuminaNet against the networks of its paper.

Trains every network with every seed by the command, data, augmentation and regularisation of
`training.train`, looks at the test set once when a run is finished, and writes
benchmarks/cifar10.md and .json after every run. What is already in --out is not done again: an
interrupted run resumes, a finished one is read. With --seconds, every network gets that much
training time instead of the preset's steps; what had too little of it is marked.

Accuracies are of the averaged weights in float32 on one view of each image.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

from benchmarks import runs
from benchmarks.quality import Tally
from benchmarks.report import provenance, table
from luminanet.cost import macs as topology_macs
from luminanet.errors import ConfigError
from luminanet.frozen import FrozenNet
from training import checkpoint
from training.baselines import registry
from training.batches import ImageSource, scale
from training.config import LEARNING_RATES, PRESETS, DataSet, TrainConfig
from training.data import Images, load_images, resolve
from training.loop import Run
from training.network import Network
from training.task import prepare
from training.train import command_of

HERE = Path(__file__).parent
NETWORKS = ("cifar10", *LEARNING_RATES)
RESULT = "result.json"
BATCH = 250
NOTES = """Same data, augmentation, regularisation and optimiser for all, 4 % of the training images
held out, averaged weights, one view of each test image in float32. Margins are in points of
top-1. With several seeds: mean ± standard deviation. "Not converged": the run ended before it had
seen as many images as its preset gives it, or its time was over while the held-out loss still
fell; a margin over such a network says nothing.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One finished run; accuracies are shares of the test set, loss is in nats per image."""

    network: str
    seed: int
    parameters: int
    macs: int
    top1: float
    top5: float
    loss: float
    epochs: float
    training_seconds: float
    converged: bool


# ---------------------------------------------------------------------- one run


def finish(config: TrainConfig, out: Path, folder: Path | None, device: torch.device) -> Result:
    """Trains what is not trained yet and tests what is not tested yet.

    Raises ConfigError when `out` holds a run with other settings, Interrupted after a signal.
    """
    path = out / RESULT
    if raw := runs.stored(path, config):
        return Result(**raw)
    task = prepare(config, folder, None)
    assert isinstance(task.source, ImageSource)
    trained = Run(config, task, out, device, command(config)).train()
    result = judge(config, trained, load_images(folder, "test"), len(task.source.labels), device)
    runs.store(path, config, asdict(result))
    return result


def judge(
    config: TrainConfig, path: Path, test: Images, trained_on: int, device: torch.device
) -> Result:
    """The figures of a checkpoint on the test set; it was trained on `trained_on` images."""
    model, figures, parameters, macs = read(config, path)
    tally = tested(model, test, device)
    return Result(
        network=config.preset,
        seed=config.seed,
        parameters=parameters,
        macs=macs,
        top1=tally.first / tally.count,
        top5=tally.five / tally.count,
        loss=tally.nats / tally.count,
        epochs=figures["examples"] / trained_on,
        training_seconds=figures["training_seconds"],
        converged=converged(config, figures),
    )


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


def converged(config: TrainConfig, figures: Mapping[str, float]) -> bool:
    """Whether a run had the images of its preset and, at a time limit, had stopped improving.

    The second alone is not enough: the cosine brings every run to rest, however short it was.
    """
    preset = PRESETS[config.preset]
    enough = figures["examples"] >= preset.steps * preset.batch
    return enough and not figures.get("still_improving")


def read(config: TrainConfig, path: Path) -> tuple[nn.Module, dict[str, float], int, int]:
    """Module, figures of training, parameters, multiply-accumulates per image."""
    if config.model in registry.BASELINES:
        found = checkpoint.load_baseline(path)
        model = registry.thaw(found.net)
        return model, dict(found.figures), registry.parameters(model), registry.macs(model)
    ours = checkpoint.load(path)
    assert isinstance(ours.net, FrozenNet)
    topology = ours.net.topology
    return Network(ours.net), dict(ours.figures), topology.parameters, topology_macs(topology)


def command(config: TrainConfig) -> str:
    """What trains this run alone."""
    preset, words = PRESETS[config.preset], [f"--preset {config.preset}"]
    for name in ("seed", "steps", "batch", "seconds", "check_every"):
        value = getattr(config, name)
        if value != getattr(preset, name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(["python -m training.train", *words])


# ---------------------------------------------------------------------- the table


@dataclass(frozen=True, slots=True)
class Summary:
    """All seeds of one network: means, standard deviations, margins as differences of top-1."""

    network: str
    seeds: tuple[int, ...]
    parameters: float
    macs: float
    top1: float
    top1_deviation: float
    top5: float
    top5_deviation: float
    over_lenet5: float | None
    over_alexnet: float | None
    epochs: float
    training_seconds: float
    not_converged: int


def summarise(results: Sequence[Result]) -> list[Summary]:
    """In the order of the networks' first runs."""
    by_network: dict[str, list[Result]] = {}
    for result in results:
        by_network.setdefault(result.network, []).append(result)
    top1 = {name: mean(run.top1 for run in own) for name, own in by_network.items()}

    def over(name: str, rival: str) -> float | None:
        return top1[name] - top1[rival] if rival in top1 else None

    return [
        Summary(
            network=name,
            seeds=tuple(run.seed for run in own),
            parameters=mean(run.parameters for run in own),
            macs=mean(run.macs for run in own),
            top1=top1[name],
            top1_deviation=_deviation([run.top1 for run in own]),
            top5=mean(run.top5 for run in own),
            top5_deviation=_deviation([run.top5 for run in own]),
            over_lenet5=over(name, "lenet5"),
            over_alexnet=over(name, "alexnet"),
            epochs=mean(run.epochs for run in own),
            training_seconds=mean(run.training_seconds for run in own),
            not_converged=sum(not run.converged for run in own),
        )
        for name, own in by_network.items()
    ]


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def markdown(summaries: Sequence[Summary]) -> str:
    header = [
        *("CIFAR-10 test", "parameters", "MACs per image", "top-1", "top-5"),
        *("over LeNet-5", "over AlexNet", "seeds", "epochs", "training s", ""),
    ]
    return table(header, [_row(summary) for summary in summaries])


def _row(s: Summary) -> list[str]:
    def share(mean: float, deviation: float) -> str:
        return f"{100 * mean:.2f}{f' ± {100 * deviation:.2f}' if len(s.seeds) > 1 else ''} %"

    def margin(difference: float | None) -> str:
        return "" if difference is None else f"{100 * difference:+.2f}"

    return [
        f"LuminaNet ({s.network})" if PRESETS[s.network].model == "luminanet" else s.network,
        f"{s.parameters / 1e6:.2f} M",
        f"{s.macs / 1e6:.2f} M",
        share(s.top1, s.top1_deviation),
        share(s.top5, s.top5_deviation),
        margin(s.over_lenet5),
        margin(s.over_alexnet),
        str(len(s.seeds)),
        f"{s.epochs:.1f}",
        f"{s.training_seconds:.0f}",
        f"not converged ({s.not_converged} of {len(s.seeds)})" if s.not_converged else "",
    ]


def write(results: Sequence[Result], folder: Path, source: str) -> str:
    """cifar10.md and cifar10.json; returns the table."""
    summaries = summarise(results)
    shown = markdown(summaries)
    title = "# CIFAR-10: LuminaNet and the networks it is compared with\n\n"
    body: dict[str, Any] = {
        "source": source.strip(),
        "networks": [asdict(summary) for summary in summaries],
        "runs": [asdict(result) for result in results],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cifar10.md").write_text(f"{title}{shown}\n{NOTES}\n{source}", "utf-8")
    (folder / "cifar10.json").write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    return shown


# ---------------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    options = runs.parser("cifar10", __doc__, seeds="0")
    options.add_argument("--networks", default=",".join(NETWORKS), help="presets, with commas")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    return options


def configure(arguments: argparse.Namespace) -> list[TrainConfig]:
    """Every run, seed by seed, so that a first column of the table is there early."""
    return [
        runs.budgeted(replace(_preset(name), seed=seed), arguments)
        for seed in runs.seeds_of(arguments)
        for name in dict.fromkeys(arguments.networks.split(","))
    ]


def _preset(name: str) -> TrainConfig:
    images = sorted(key for key, c in PRESETS.items() if c.data_set is DataSet.CIFAR10)
    if name not in images:
        raise ConfigError(f"--networks: {name!r} is none of {', '.join(images)}")
    return PRESETS[name]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)

    def work() -> str:
        folder, results, shown = resolve(arguments.data), list[Result](), ""
        for config in configure(arguments):
            out = arguments.out / f"{config.preset}-seed{config.seed}"
            results.append(finish(config, out, folder, device))
            shown = write(results, arguments.report, _source(argv, arguments, device))
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
