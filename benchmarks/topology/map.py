"""Figures of arms -> the table, the picture, and which choices spread beyond seeds."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

from benchmarks.report import table
from benchmarks.tinystories.plots import picture
from benchmarks.topology.arms import MACS, MAX_PARAMETERS, REFERENCE
from benchmarks.topology.trained import Trained

BEYOND = 2.0
"""Spreads of the seeds that a draw, or a hand-made arm, must lie apart to count."""
NOTES = f"""Every network has at most {MACS:,} multiply-accumulates an image; the recipe, the number
of steps and the 4,000 held-out images are the same for all. "Beyond seeds" says that the draws
spread {BEYOND:g} times as wide as the seeds of the reference, or that a network made by hand lies
{BEYOND:g} of their standard deviations from it. With few draws and seeds that is a screen, not a
proof. Networks of more than {MAX_PARAMETERS:,} parameters are marked *.
"""


def page(known: Sequence[Trained]) -> str:
    """The table of each length, longest first."""
    parts = ["# What does a topology choose that matters at the end? CIFAR-10\n"]
    for steps in sorted({run.steps for run in known}, reverse=True):
        runs = [run for run in known if run.steps == steps]
        parts += [f"\n## {steps:,} steps\n\n", _seeds(runs), "\n", _choices(runs)]
    return "".join([*parts, "\n![held-out loss by choice](map.svg)\n\n", NOTES])


def reference(runs: Sequence[Trained]) -> list[Trained]:
    return [run for run in runs if run.name == REFERENCE]


def seeds_deviation(runs: Sequence[Trained]) -> float | None:
    """Of the reference's held-out loss over its seeds; None before there are two."""
    losses = [run.loss for run in reference(runs)]
    return stdev(losses) if len(losses) > 1 else None


def _seeds(runs: Sequence[Trained]) -> str:
    deviation, own = seeds_deviation(runs), reference(runs)
    if deviation is None:
        return "The reference has not had two seeds yet: nothing can be said of spreads.\n"
    losses = ", ".join(f"{run.loss:.4f}" for run in own)
    return f"Seeds of the reference: {losses}; standard deviation {deviation:.4f}.\n"


def _choices(runs: Sequence[Trained]) -> str:
    header = [
        *("choice", "network", "n", "held-out loss", "spread", "accuracy", "parameters"),
        *("against the reference", "beyond seeds"),
    ]
    ordered = sorted(runs, key=lambda run: (run.choice, run.name, run.draw or 0, run.seed))
    return table(header, [_row(list(own), runs) for _, own in groupby(ordered, lambda r: r.name)])


def _row(own: list[Trained], runs: Sequence[Trained]) -> list[str]:
    losses, base = [run.loss for run in own], [run.loss for run in reference(runs)]
    spread = stdev(losses) if len(losses) > 1 else None
    largest = max(run.parameters for run in own)
    difference = f"{mean(losses) - mean(base):+.4f}" if base else ""
    return [
        own[0].choice,
        own[0].name,
        str(len(own)),
        f"{mean(losses):.4f}",
        "" if spread is None else f"± {spread:.4f}",
        f"{100 * mean(run.accuracy for run in own):.1f} %",
        f"{largest / 1e6:.2f} M{' *' if largest > MAX_PARAMETERS else ''}",
        difference,
        _beyond(own, spread, runs),
    ]


def _beyond(own: list[Trained], spread: float | None, runs: Sequence[Trained]) -> str:
    """Whether a choice matters more than chance; empty where that cannot be said."""
    deviation = seeds_deviation(runs)
    if deviation is None or own[0].name == REFERENCE:
        return ""
    if own[0].draw is None:
        apart = abs(mean(r.loss for r in own) - mean(r.loss for r in reference(runs)))
    elif spread is None:
        return ""
    else:
        apart = spread
    ratio = apart / deviation
    return f"{'yes' if ratio > BEYOND else 'no'}, {ratio:.1f} x"


def draw(known: Sequence[Trained], path: Path) -> None:
    """A dot for each run, a row for each choice; the band is what the reference's seeds span."""
    lengths = sorted({run.steps for run in known})
    choices = sorted({run.choice for run in known}, reverse=True)
    with picture(path, (3.6 * max(1, len(lengths)), 3.2)) as figure:
        for k, steps in enumerate(lengths):
            axes = figure.add_subplot(1, len(lengths), k + 1)
            runs = [run for run in known if run.steps == steps]
            if base := [run.loss for run in reference(runs)]:
                axes.axvspan(min(base), max(base), color="#94a3b8", alpha=0.4, linewidth=0)
            for by_chance, marker, colour in ((False, "D", "#1d4ed8"), (True, "o", "#c2410c")):
                dots = [run for run in runs if (run.draw is not None) == by_chance]
                places = [choices.index(run.choice) for run in dots]
                label = "by chance" if by_chance else "by hand"
                axes.scatter(
                    [r.loss for r in dots], places, s=14, marker=marker, color=colour, label=label
                )
            axes.set_yticks(range(len(choices)), choices if k == 0 else [""] * len(choices))
            axes.set(xlabel="held-out loss", title=f"{steps:,} steps")
        axes.legend(fontsize=7)
