"""Does selection choose? `python -m benchmarks.topology.selection --data DIR`.

Trains every arm with every seed of --seeds and writes selection.json after each run: what that
knows is not run again, and an interrupted run resumes. Then writes selection.md and selection.svg.

    worth        the preset cifar10-selected: 75 narrow clusters, of which 24 wide ones are left
                 at 8 % of the run, of each receptive field as many as it is worth
    random       the same with worths dealt out by chance
    worst        the same turned over: what is missed least has most clusters
    by hand      8 windows, 8 of 2x2 means, 8 thumbnails from the start
    from scratch what `worth` chose with this seed, from the start

Seeds are paired: arms of one seed have the same batches, and all runs the same held-out images. One
half of those measures what a field is worth, the other half is what all arms are scored on; the
test set is not looked at.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks import end_points, ledger, runs
from benchmarks.end_points import End
from benchmarks.report import made, provenance, table
from benchmarks.tinystories.plots import picture
from benchmarks.topology.arms import SPREAD, Arm, by_hand, scales
from benchmarks.topology.trained import CPU, PACKAGES, Wanted, images, prepared
from luminanet.cost.macs import macs
from luminanet.errors import ConfigError
from luminanet.topology import Topology
from training.config import ImageConfig, ImageLuminaNet
from training.data.batches import halves
from training.data.datasets import resolve
from training.evolution.evolve import network
from training.presets import IMAGE_PRESETS
from training.run.run import Run
from training.topologies import IMAGE_SEEDINGS
from training.train import command_of

HERE = Path(__file__).parent
FIGURES, PAGE, PICTURE = "selection.json", "selection.md", "selection.svg"
RUNS = "runs"
WORTH, RANDOM, WORST = "worth", "random", "worst"
BY_HAND, FROM_SCRATCH = "by hand", "from scratch"
ARMS = (WORTH, RANDOM, WORST, BY_HAND, FROM_SCRATCH)
SCALES = {1: "image", 2: "2x2 means", 4: "4x4 means"}
STANDARD_ERRORS = 2.0
"""Of the paired difference, that a claim needs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run; `topology` is where it ended, as Topology.to_json writes it."""

    arm: str
    seed: int
    steps: int
    loss: float
    accuracy: float
    parameters: int
    macs: int
    topology: str
    seconds: float
    """Of training, the selection included."""
    made: str
    """Machine, versions and date."""

    @property
    def key(self) -> tuple[str, int, int]:
        return self.arm, self.seed, self.steps

    @property
    def network(self) -> Topology:
        return Topology.from_json(self.topology)


Known = Sequence[Outcome]


# ---------------------------------------------------------------------- the command


def parser() -> argparse.ArgumentParser:
    out = Path("runs/selection")
    p = ledger.parser("benchmarks.topology.selection", __doc__, out, HERE, f"{PAGE} and {FIGURES}")
    p.add_argument("--only", default="*", metavar="PATTERN", help="arms by name, such as 'w*'")
    p.add_argument("--steps", type=int, default=1000, help="of each run (1000)")
    p.add_argument("--seeds", default="0,1,2,3,4", help="with commas (0,1,2,3,4)")
    p.add_argument("--batch", type=int, help="instead of the preset's")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    torch.set_num_threads(arguments.threads)
    return runs.finished(lambda: work(arguments, words))


def work(arguments: argparse.Namespace, words: Sequence[str]) -> str:
    """Does what is missing; returns the page. Raises ConfigError when no arm has such a name."""
    arguments.report.mkdir(parents=True, exist_ok=True)
    path = arguments.report / FIGURES
    known = [Outcome(**raw) for raw in ledger.read(path, RUNS)]
    for arm, seed in missing(arguments, known)[: arguments.most]:
        print(f"{arm}, seed {seed}", file=sys.stderr)
        known.append(perform(arm, seed, arguments, known))
        ledger.write(path, RUNS, map(asdict, known))
    command = command_of(list(words), "benchmarks.topology.selection")
    text = page(known)
    draw(known, arguments.report / PICTURE)
    source = provenance(command, PACKAGES, arguments.seeds)
    (arguments.report / PAGE).write_text(f"{text}\n{source}", "utf-8")
    return text


def missing(arguments: argparse.Namespace, known: Known) -> list[tuple[str, int]]:
    """All arms of the first seed, then of the next."""
    if not (chosen := [arm for arm in ARMS if fnmatch(arm, arguments.only)]):
        raise ConfigError(f"no arm is named like {arguments.only!r}: give another --only")
    done = {outcome.key for outcome in known}
    pairs = product(runs.numbers(arguments.seeds, "--seeds"), chosen)
    return [(arm, seed) for seed, arm in pairs if (arm, seed, arguments.steps) not in done]


# ---------------------------------------------------------------------- one run


def perform(arm: str, seed: int, arguments: argparse.Namespace, known: Known) -> Outcome:
    """Trains, or goes on with, one run. Raises Interrupted after SIGINT or SIGTERM."""
    config = settings(arm, seed, arguments)
    start = first(arm, (WORTH, seed, arguments.steps), known)
    wanted = Wanted(Arm("selection", arm, start), seed, arguments.steps)
    task = prepared(config, wanted, images(resolve(arguments.data)))
    run = Run(config, task, arguments.out / wanted.folder, CPU, wanted.folder)
    run.train()
    with run.trainer.averaged(task.source):
        score = run.trainer.score(halves(task.source.held_out)[1])
    end = network(run.trainer).topology
    return Outcome(
        arm=arm,
        seed=seed,
        steps=arguments.steps,
        loss=score.loss,
        accuracy=score.accuracy,
        parameters=end.parameters,
        macs=macs(end),
        topology=end.to_json(),
        seconds=round(run.trainer.seconds, 1),
        made=made(PACKAGES),
    )


def settings(arm: str, seed: int, arguments: argparse.Namespace) -> ImageConfig:
    """The recipe is one for all arms; what evolves is a selection by this policy, or nothing."""
    preset = IMAGE_PRESETS["cifar10-selected"]
    assert preset.evolution
    evolves = arm in (WORTH, RANDOM, WORST)
    return preset.having(
        preset=f"{arm}, seed {seed}",
        seed=seed,
        steps=arguments.steps,
        batch=arguments.batch or preset.batch,
        check_every=max(1, arguments.steps // 2),
        evolution=replace(preset.evolution, policy=arm) if evolves else None,
    )


def first(arm: str, chosen_by: tuple[str, int, int], known: Known) -> Topology:
    """Where an arm starts. Raises ConfigError where that is the end of a run that was not made."""
    if arm == BY_HAND:
        return by_hand(scales(8, 8, 8), SPREAD)()
    if arm == FROM_SCRATCH:
        if found := [outcome for outcome in known if outcome.key == chosen_by]:
            return found[0].network
        raise ConfigError(f"{FROM_SCRATCH!r} starts where {WORTH!r} ended: run that arm first")
    model = IMAGE_PRESETS["cifar10-selected"].model
    assert isinstance(model, ImageLuminaNet)
    return IMAGE_SEEDINGS["overproduced"](model.width, model.channel, 0)


# ---------------------------------------------------------------------- figures -> the page


def page(known: Known) -> str:
    """The tables of each length, longest first."""
    parts = ["# Does selection choose? CIFAR-10\n"]
    for steps in sorted({outcome.steps for outcome in known}, reverse=True):
        own = [outcome for outcome in known if outcome.steps == steps]
        parts += [f"\n## {steps:,} steps\n\n", verdict(own), "\n\n", arms_table(own)]
        parts += ["\n", differences(own), "\n", fields(own)]
        pairs = [(WORTH, arm) for arm in (RANDOM, WORST, BY_HAND)]
        parts += [end_points.section(ends(own), pairs, "held-out loss", 4)]
    return "".join([*parts, "\n![what clusters see](selection.svg)\n\n", notes()])


def notes() -> str:
    return f"""{"".join(__doc__.partition("    worth")[1:])}
Differences are of the mean over paired seeds, ± its standard error. A choice is claimed when
`worth` beats `random` by more than {STANDARD_ERRORS:g} of them in the held-out loss.
"""


def of(known: Known, arm: str) -> dict[int, Outcome]:
    """Seed -> outcome."""
    return {outcome.seed: outcome for outcome in known if outcome.arm == arm}


def ends(known: Known) -> end_points.Ends:
    return {
        arm: {seed: End(o.network, o.loss) for seed, o in of(known, arm).items()} for arm in ARMS
    }


def paired(known: Known, arm: str, figure: Callable[[Outcome], float]) -> list[float]:
    """Of each seed that both have, `worth` less the other arm."""
    ours, theirs = of(known, WORTH), of(known, arm)
    return [figure(ours[s]) - figure(theirs[s]) for s in sorted(ours.keys() & theirs.keys())]


def standard_error(values: Sequence[float]) -> float | None:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def verdict(known: Known) -> str:
    gains = [-gain for gain in paired(known, RANDOM, lambda o: o.loss)]
    error = standard_error(gains)
    if error is None:
        return f"Nothing can be said yet: {WORTH} and {RANDOM} need two seeds in common."
    gain = mean(gains)
    told = f"{WORTH} has {abs(gain):.4f} {'less' if gain > 0 else 'more'} loss than {RANDOM}"
    by = f"{told}, {gain / error if error else math.inf:.1f} standard errors, {len(gains)} seeds"
    is_real = gain > STANDARD_ERRORS * error
    return f"**{'The choice is real' if is_real else 'No choice can be claimed'}**: {by}."


def arms_table(known: Known) -> str:
    header = ("arm", "seeds", "held-out loss", "accuracy, %", "parameters", "MACs", "seconds")
    rows = []
    for arm in ARMS:
        if own := list(of(known, arm).values()):
            shown = [
                spread([o.loss for o in own], 4),
                spread([100 * o.accuracy for o in own], 2),
                f"{mean(o.parameters for o in own) / 1e6:.2f} M",
                f"{mean(o.macs for o in own):,.0f}",
                f"{mean(o.seconds for o in own):.0f}",
            ]
            rows.append([arm, str(len(own)), *shown])
    return table(header, rows)


def spread(values: Sequence[float], digits: int) -> str:
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def differences(known: Known) -> str:
    rows = []
    for arm in ARMS:
        losses = paired(known, arm, lambda o: o.loss)
        if losses and arm != WORTH:
            points = paired(known, arm, lambda o: 100 * o.accuracy)
            rows.append([f"{WORTH} - {arm}", str(len(losses)), told(losses, 4), told(points, 2)])
    return table(("paired difference", "seeds", "held-out loss", "accuracy, points"), rows)


def told(values: Sequence[float], digits: int) -> str:
    error = standard_error(values)
    return f"{mean(values):+.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def fields(known: Known) -> str:
    """What each run ended with: clusters of each scale, and of how many different fields."""
    rows = []
    for outcome in sorted(known, key=lambda o: (ARMS.index(o.arm), o.seed)):
        seen = Counter(c.patches[0] for c in outcome.network.clusters)
        by_scale = Counter(dict.fromkeys(SCALES, 0))
        for patch, count in seen.items():
            by_scale[patch.pool] += count
        shown = [str(by_scale[scale]) for scale in SCALES]
        most = f"{max(seen.values())} of one"
        rows.append([outcome.arm, str(outcome.seed), *shown, str(len(seen)), most])
    return table(("arm", "seed", *SCALES.values(), "different fields", "most"), rows)


def draw(known: Known, path: Path) -> None:
    """What the networks of `worth` and `random` see, of their first seed: a frame a cluster, the
    darker the more clusters see it; a row an arm, a column a scale."""
    shown = [(arm, of(known, arm)) for arm in (WORTH, RANDOM) if of(known, arm)]
    with picture(path, (6, 2.1 * max(1, len(shown)))) as figure:
        from matplotlib.patches import Rectangle

        for row, (arm, outcomes) in enumerate(shown):
            network = outcomes[min(outcomes)].network
            for column, (scale, name) in enumerate(SCALES.items()):
                axes = figure.add_subplot(len(shown), len(SCALES), row * len(SCALES) + column + 1)
                axes.set(xlim=(0, 32), ylim=(32, 0), aspect="equal", xticks=[], yticks=[])
                frames = [p.frame for c in network.clusters for p in c.patches if p.pool == scale]
                for top, left, height, width in frames:
                    box: Any = Rectangle((left, top), width, height, ec="#1d4ed8", fc="#1d4ed822")
                    axes.add_patch(box)
                axes.set_title(f"{arm}: {len(frames)} of {name}", fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
