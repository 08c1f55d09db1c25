"""`python -m benchmarks.training_precision`: training in fp32, in bf16 and as `auto` chooses.

Speed: steps of the presets in all precisions in turn, one thread of torch, the median of the steps'
wall time. Accuracy: short runs of the same seeds, held out; what a precision costs shows in pairs.
Writes benchmarks/training_precision.md; runs that are finished are found again under --out.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.report import provenance, table
from benchmarks.runs import finished, going_on, parser, seeds_of, store, stored
from luminanet.machine import cpu
from training.config import TextConfig, TrainConfig
from training.data.datasets import resolve
from training.precision import AUTO, BF16, FP32, PRECISIONS, native
from training.presets import PRESETS
from training.run.run import Run
from training.run.task import Task, build, prepare
from training.step.trainer import Trainer

NAME = "training_precision"
CPU = torch.device("cpu")
CONFIGS: dict[str, TrainConfig] = {
    "cifar10": PRESETS["cifar10"],
    "gpt2, width 384": PRESETS["gpt2"].having(width=384),
    "tinystories-echo-wide, no teacher": replace(PRESETS["tinystories-echo-wide"], teacher=""),
}
WARM, ROUNDS = 2, 15
STEPS = {"cifar10": 300}
"""Of the runs that compare accuracies; text takes TEXT_STEPS."""
TEXT_STEPS = 100


def speeds(task: Task, config: TrainConfig) -> dict[str, float]:
    """Precision -> seconds of a step."""
    trainers = {
        precision: Trainer(build(task, config), replace(config, precision=precision), CPU)
        for precision in PRECISIONS
    }
    seconds: dict[str, list[float]] = {precision: [] for precision in trainers}
    for step in range(WARM + ROUNDS):
        batch = task.source.batch(step)
        for precision, trainer in trainers.items():
            start = perf_counter()
            trainer.train(batch)
            if step >= WARM:
                seconds[precision].append(perf_counter() - start)
    return {precision: statistics.median(found) for precision, found in seconds.items()}


def held_out(task: Task, config: TrainConfig, out: Path) -> float:
    """Accuracy in percent, or perplexity."""
    path = out / "result.json"
    known = stored(path, config)
    if known is None:
        run = Run(config, task, out, CPU, f"python -m benchmarks.{NAME}")
        run.train()
        score = run.score()
        is_text = isinstance(config, TextConfig)
        known = {"figure": score.perplexity if is_text else 100 * score.accuracy}
        store(path, config, known)
    return float(known["figure"])


def speed_rows(load: Callable[[TrainConfig], Task]) -> Iterator[list[str]]:
    for name, config in CONFIGS.items():
        task = load(config)
        found = speeds(task, config)
        units = task.source.units_per_step
        best = min(found[FP32], found[BF16])
        rates = [f"{units / found[p]:,.0f} {task.source.unit}/s" for p in PRECISIONS]
        yield [name, *rates, native(CPU), f"{found[AUTO] / best:.2f}"]


def accuracy_rows(
    load: Callable[[TrainConfig], Task], seeds: Sequence[int], out: Path
) -> Iterator[list[str]]:
    for name, preset in CONFIGS.items():
        steps = STEPS.get(name, TEXT_STEPS)
        figures: dict[str, list[float]] = {FP32: [], BF16: []}
        for seed in seeds:
            for precision, found in figures.items():
                config = replace(preset, steps=steps, seed=seed, precision=precision)
                folder = out / f"{preset.preset}-{precision}-{seed}"
                config = going_on(config, folder)
                found.append(held_out(load(config), config, folder))
        pairs = zip(figures[BF16], figures[FP32], strict=True)
        measure = "perplexity" if isinstance(preset, TextConfig) else "top-1, %"
        told = [_spread(found) for found in figures.values()]
        yield [name, str(steps), measure, *told, _spread([b - f for b, f in pairs])]


def _spread(found: Sequence[float]) -> str:
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    return f"{statistics.mean(found):.2f} ± {deviation:.2f}"


def report(arguments: argparse.Namespace) -> str:
    torch.set_num_threads(arguments.threads or 1)
    folder, seeds = resolve(arguments.data), seeds_of(arguments)

    def load(config: TrainConfig) -> Task:
        return prepare(config, folder, None, cache=arguments.out)

    fast = list(speed_rows(load))
    print(*fast, sep="\n", flush=True)
    good = list(accuracy_rows(load, seeds, arguments.out))
    choice = f"This CPU: {cpu()}; `auto` is {native(CPU)}."
    head = ["preset", *PRECISIONS, "auto is", "time of auto / best"]
    speed = table(head, fast)
    head = ["preset", "steps", "held out", FP32, BF16, "bf16 - fp32, in pairs"]
    accuracy = table(head, good)
    text = f"{choice}\n\n{speed}\n{len(seeds)} seeds; mean ± standard deviation.\n\n{accuracy}"
    command = f"python -m benchmarks.{NAME} --seeds {arguments.seeds}"
    source = provenance(command, ("torch",), arguments.seeds)
    page = arguments.report / f"{NAME}.md"
    page.write_text(f"# Precision of training (CPU, one thread)\n\n{text}\n{source}", "utf-8")
    return text


def main() -> int:
    p = parser(NAME, __doc__, "0,1,2")
    return finished(lambda: report(p.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
