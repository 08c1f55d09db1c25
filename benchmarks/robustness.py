"""`python -m benchmarks.robustness --data DIR`: exponentiated gradients beside AdamW.

Trains the cifar10 preset by every rule with every seed, for the same steps or (--seconds) the same
training time, and measures them on the held-out training images, never on the test set: accuracy,
accuracy without the smallest weights and under attack, and how the weights are distributed.
Writes benchmarks/robustness.md and .json after every run. What is already in --out is not done
again: an interrupted run resumes, a finished one is read.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from benchmarks import runs
from benchmarks.attacks import fgsm, pgd, pruned
from benchmarks.report import provenance, table
from benchmarks.synapses import born, faded, flipped, shape
from luminanet.frozen import FrozenNet
from training import checkpoint
from training.config import ImageConfig
from training.data.batches import Batch
from training.data.datasets import resolve
from training.model.network import Network
from training.presets import IMAGE_PRESETS
from training.run.run import Run
from training.run.task import prepare
from training.train import command_of

HERE = Path(__file__).parent
RESULT = "result.json"
FASTER = 3
RULES = {"adamw": "AdamW", "adamw-fast": f"AdamW, rate x{FASTER}", "eg": "EG"}
"""Folder name -> column. The faster AdamW tells what is the rule's merit, and what is due to short
runs that a higher rate would have helped as well."""
PRUNED = (0.5, 0.8, 0.9, 0.95)
EPSILONS = (2, 4, 8)
"""Largest change of a pixel, of 255."""
BUDGET = ("steps", "training seconds", "parameters")
PURE = ("skewness of log w", "kurtosis of log w", "KS to log-normal", "KS to normal")
"""Measures that are no shares."""
NOTES = """Mean ± standard deviation over the seeds; the last columns are the mean and deviation of
the differences seed by seed. Averaged weights, float32, one view of each held-out image. Pruning
is by magnitude, over all synapses (see, hear, send, readout) together, without retraining; attacks
are white-box, L-infinity, PGD with 10 steps of epsilon / 4 from a random start. A weight is near
zero below a tenth of its kind's root mean square; the second such row leaves out the synapses that
growth made at zero, which are near zero because they are young. log|w| of a log-normal distribution
has skewness and excess kurtosis 0 and 0, of a normal one (as all weights start, 8.0 % near zero)
-1.5 and 4; KS is the distance of log|w|, or of w, to its fitted normal distribution. A flipped sign
is another than the weight, or the one it was split from, was born with; EG keeps every sign by
construction. All rules start from the same weights and evolve the topology for themselves. The
preset's learning rate is for long runs, EG's factor (RATE in exponentiated.py) was chosen
in short ones: in short runs EG's rival is the faster AdamW.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One finished run; `measures` are shares (0..1) but for BUDGET and PURE, in row order."""

    rule: str
    seed: int
    measures: dict[str, float]


# ---------------------------------------------------------------------- one run


def finish(rule: str, config: ImageConfig, out: Path, folder: Path | None) -> Result:
    """Trains and measures what is not yet; raises ConfigError when `out` is of another run."""
    path, config = out / RESULT, runs.going_on(config, out)
    if raw := runs.stored(path, config):
        return Result(**raw)
    task = prepare(config, folder, None)
    assert isinstance(task.first_net, FrozenNet)
    run = Run(config, task, out, torch.device("cpu"), "python -m benchmarks.robustness")
    trained = checkpoint.load(run.train())
    assert isinstance(trained.net, FrozenNet)
    start = born(task.first_net, run.history, config.seed)
    budget = (trained.figures["steps"], trained.figures["training_seconds"])
    sizes = zip(BUDGET, (*budget, trained.net.topology.parameters), strict=True)
    measures = dict(sizes) | quality(trained.net, task.source.held_out, config.seed)
    result = Result(rule, config.seed, measures | synapse_measures(start, trained.net))
    runs.store(path, config, asdict(result))
    return result


def quality(net: FrozenNet, batches: Sequence[Batch], seed: int) -> dict[str, float]:
    """Accuracies: plain, pruned, attacked."""
    model = Network(net).eval()
    found = {"accuracy": accuracy(model, batches)}
    for share in PRUNED:
        found[f"pruned by {share:.0%}"] = accuracy(Network(pruned(net, share)).eval(), batches)
    generator = torch.Generator().manual_seed(seed)
    for bound in EPSILONS:
        one = partial(fgsm, model, epsilon=bound / 255)
        many = partial(pgd, model, epsilon=bound / 255, generator=generator)
        found[f"FGSM {bound}/255"] = accuracy(model, batches, one)
        found[f"PGD-10 {bound}/255"] = accuracy(model, batches, many)
    return found


def accuracy(
    model: nn.Module,
    batches: Sequence[Batch],
    attack: Callable[[Tensor, Tensor], Tensor] = lambda images, _: images,
) -> float:
    right = 0
    for batch in batches:
        attacked = attack(batch.inputs, batch.targets)
        with torch.no_grad():
            right += int((model(attacked).argmax(-1) == batch.targets).sum())
    return right / sum(len(batch.targets) for batch in batches)


def synapse_measures(start: FrozenNet, net: FrozenNet) -> dict[str, float]:
    found = shape(net)
    pure = (found.skewness, found.kurtosis, found.to_lognormal, found.to_normal)
    shares = {"near zero": found.near_zero, "near zero, not born so": faded(start, net)}
    shares["flipped signs"] = flipped(start, net)
    return shares | dict(zip(PURE, pure, strict=True))


# ---------------------------------------------------------------------- the table


def markdown(results: Sequence[Result]) -> str:
    """Rows are measures, columns rules; a difference is over the seeds that both have."""
    runs = {rule: {r.seed: r.measures for r in results if r.rule == rule} for rule in RULES}
    rivals = [rule for rule in RULES if rule != "eg"]
    rows = []
    for name in results[0].measures:
        cells = [spread(name, [m[name] for m in own.values()]) for own in runs.values()]
        for rival in rivals:
            both = sorted(runs["eg"].keys() & runs[rival].keys())
            gaps = [runs["eg"][seed][name] - runs[rival][seed][name] for seed in both]
            cells.append(spread(name, gaps, signed=True))
        rows.append([name, *cells])
    gaps_of = [f"EG - {RULES[rival]}" for rival in rivals]
    return table(["held-out CIFAR-10", *RULES.values(), *gaps_of], rows)


def spread(name: str, values: Sequence[float], signed: bool = False) -> str:
    if not values:
        return ""
    digits, scale, unit = (1, 100, " %")
    if name in BUDGET:
        digits, scale, unit = (0, 1, "")
    elif name in PURE:
        digits, scale, unit = (3, 1, "")
    shown = f"{scale * mean(values):{'+' if signed else ''},.{digits}f}"
    deviation = f" ± {scale * stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{shown}{deviation}{unit}"


def write(results: Sequence[Result], folder: Path, source: str) -> str:
    """robustness.md and robustness.json; returns the table."""
    shown = markdown(results)
    title = "# Exponentiated gradients (training/step/exponentiated.py) beside AdamW\n\n"
    body = {"source": source.strip(), "runs": [asdict(result) for result in results]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "robustness.md").write_text(f"{title}{shown}\n{NOTES}\n{source}", "utf-8")
    (folder / "robustness.json").write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    return shown


# ---------------------------------------------------------------------- command line


def configure(arguments: argparse.Namespace) -> list[tuple[str, ImageConfig]]:
    """Every run with its rule, seed by seed; on plain pixels, whose signs EG keeps."""
    slow = runs.budgeted(IMAGE_PRESETS["cifar10"], arguments).having(whiten=0.0)
    fast = replace(slow, learning_rate=FASTER * slow.learning_rate)
    rules = list(zip(RULES, (slow, fast, slow.having(optimizer="eg")), strict=True))
    seeds = runs.seeds_of(arguments)
    return [(rule, replace(config, seed=seed)) for seed in seeds for rule, config in rules]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    arguments = runs.parser("robustness", __doc__, seeds="0,1,2").parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    command = command_of(argv, "benchmarks.robustness")
    source = provenance(command, ("torch", "numpy"), arguments.seeds)

    def work() -> str:
        folder, results, shown = resolve(arguments.data), list[Result](), ""
        for rule, config in configure(arguments):
            out = arguments.out / f"{rule}-seed{config.seed}"
            results.append(finish(rule, config, out, folder))
            shown = write(results, arguments.report, source)
        return shown

    return runs.finished(work)


if __name__ == "__main__":
    sys.exit(main())
