"""Finished runs on CIFAR-10 -> the table of benchmarks.cifar10: means, spreads and margins."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.report import table
from training.config import ImageLuminaNet
from training.presets import IMAGE_PRESETS

NOTES = """Same data, recipe and optimiser for all networks, 4 % of the training images held out,
averaged weights, one view of each test image in float32. Recipes: bare is the images as they are;
plain adds crops and mirrors; mixup adds mixup and label smoothing to those, which the paper does
not use. Margins are in points of top-1 over the network of the same recipe. With several seeds:
mean ± standard deviation. "Not converged": the run ended before it had seen as many images as its
preset gives it, or its time was over while the held-out loss still fell; a margin over such a
network says nothing.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One finished run; accuracies are shares of the test set, loss is in nats per image."""

    network: str
    recipe: str
    seed: int
    parameters: int
    macs: int
    top1: float
    top5: float
    loss: float
    epochs: float
    training_seconds: float
    converged: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """All seeds of a network and recipe: means, deviations, margins as differences of top-1."""

    network: str
    recipe: str
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
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.recipe, result.network), []).append(result)
    top1 = {key: mean(run.top1 for run in own) for key, own in groups.items()}

    def over(recipe: str, name: str, rival: str) -> float | None:
        known = (recipe, rival) in top1
        return top1[recipe, name] - top1[recipe, rival] if known else None

    return [
        Summary(
            network=name,
            recipe=recipe,
            seeds=tuple(run.seed for run in own),
            parameters=mean(run.parameters for run in own),
            macs=mean(run.macs for run in own),
            top1=top1[recipe, name],
            top1_deviation=_deviation([run.top1 for run in own]),
            top5=mean(run.top5 for run in own),
            top5_deviation=_deviation([run.top5 for run in own]),
            over_lenet5=over(recipe, name, "lenet5"),
            over_alexnet=over(recipe, name, "alexnet"),
            epochs=mean(run.epochs for run in own),
            training_seconds=mean(run.training_seconds for run in own),
            not_converged=sum(not run.converged for run in own),
        )
        for (recipe, name), own in groups.items()
    ]


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def markdown(summaries: Sequence[Summary]) -> str:
    header = [
        *("CIFAR-10 test", "recipe", "parameters", "MACs per image", "top-1", "top-5"),
        *("over LeNet-5", "over AlexNet", "seeds", "epochs", "training s", ""),
    ]
    return table(header, [_row(summary) for summary in summaries])


def _row(s: Summary) -> list[str]:
    def share(mean: float, deviation: float) -> str:
        return f"{100 * mean:.2f}{f' ± {100 * deviation:.2f}' if len(s.seeds) > 1 else ''} %"

    def margin(difference: float | None) -> str:
        return "" if difference is None else f"{100 * difference:+.2f}"

    is_ours = isinstance(IMAGE_PRESETS[s.network].model, ImageLuminaNet)
    return [
        f"LuminaNet ({s.network})" if is_ours else s.network,
        s.recipe,
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


def write(results: Sequence[Result], path: Path, source: str) -> str:
    """The report as path.md and path.json; returns the table."""
    summaries = summarise(results)
    shown = markdown(summaries)
    title = "# CIFAR-10: LuminaNet and the networks it is compared with\n\n"
    body: dict[str, Any] = {
        "source": source.strip(),
        "networks": [asdict(summary) for summary in summaries],
        "runs": [asdict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(f"{title}{shown}\n{NOTES}\n{source}", "utf-8")
    path.with_suffix(".json").write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    return shown
