"""Finished tries -> a page: all of them, the best rate of each width, the rule through these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, log

import numpy as np

from benchmarks.report import table
from benchmarks.tinystories.tries import GPT2, SPREAD, STEPS, WARMUP, Tried, Try, mended

SIDES = {True: "GPT-2", False: "LuminaNet"}


@dataclass(frozen=True, slots=True)
class Optimum:
    """The learning rate at which a width is best; `inside` if worse rates lie on both sides."""

    rate: float
    inside: bool


def page(known: Sequence[Tried]) -> str:
    parts = [
        "# How well each side is tuned\n",
        "Perplexity of held-out stories, in blocks of 256 tokens, at the end of each run; nothing "
        "here has seen the validation split. All tries that were made are in the tables, no "
        "teacher unless named, one seed: gaps of 1 % or less are noise. They were chosen one after "
        f"the other, the later ones by what the earlier ones gave.\n\n{counts(known)}",
    ]
    if rows := gains(known):
        parts += [f"## What mending GPT-2's recipe is worth\n\n{rows}"]
    if grids := {width: tries for width, tries in by_width(known).items() if len(tries) > 1}:
        parts += [f"## Learning rate and width of GPT-2\n\n{grid(grids)}\n{rule(grids)}"]
    if curves := [tried for tried in known if len(tried.curve) > 3]:
        parts += [f"## Longer runs\n\n{courses(curves)}"]
    parts += [f"## All tries\n\n{all_tries(known)}", origins(known)]
    return "\n".join(parts)


def is_gpt2(tried: Tried) -> bool:
    return tried.what.preset == GPT2


def counts(known: Sequence[Tried]) -> str:
    """Of each side and number of steps: how many tries, and the best."""
    rows = []
    for gpt2, side in SIDES.items():
        own = sorted((t for t in known if is_gpt2(t) is gpt2), key=lambda t: t.what.steps)
        for steps, group in groupby(own, lambda t: t.what.steps):
            tries = list(group)
            best = min(tries, key=lambda t: t.loss)
            shown = (f"{best.perplexity:.2f}", best.what.name)
            rows.append([side, str(steps), str(len(tries)), *shown])
    return table(["side", "steps", "tries", "best perplexity", "of"], rows)


def gains(known: Sequence[Tried]) -> str:
    """The best try of a GPT-2 as it was shipped, rate apart, beside the best of all; nothing
    where one of both is missing."""
    own = sorted((t for t in known if is_gpt2(t)), key=_size)
    rows = []
    for (steps, width), group in groupby(own, _size):
        tries = list(group)
        shipped = [t for t in tries if not t.what.changes]
        best = min(tries, key=lambda t: t.loss)
        if shipped and best.what.changes:
            before = min(shipped, key=lambda t: t.loss)
            cells = [
                f"{t.perplexity:.2f} at {t.what.rate:g} (of {n})"
                for t, n in ((before, len(shipped)), (best, len(tries) - len(shipped)))
            ]
            rows.append([str(width), str(steps), *cells, ", ".join(best.what.changes)])
    header = ["width", "steps", "as shipped (tries)", "mended (tries)", "by"]
    return table(header, rows) if rows else ""


def _size(tried: Tried) -> tuple[int, int]:
    return tried.what.steps, tried.what.width


# ---------------------------------------------------------------------- rates and widths


def by_width(known: Sequence[Tried]) -> dict[int, list[Tried]]:
    """The tries that differ in width and rate alone, by both."""
    plain = [t for t in known if t.what.width in SPREAD]
    plain = [t for t in plain if t.what == mended(t.what.width, t.what.rate)]
    plain.sort(key=lambda t: (t.what.width, t.what.rate))
    return {width: list(own) for width, own in groupby(plain, lambda t: t.what.width)}


def optimum(tries: Sequence[Tried]) -> Optimum:
    """The vertex of the parabola through the best of tries of rising rates and its neighbours, in
    logarithms of rate and perplexity; the best try itself when it is the first or last."""
    best = min(range(len(tries)), key=lambda i: tries[i].loss)
    if not 0 < best < len(tries) - 1:
        return Optimum(tries[best].what.rate, inside=False)
    near = tries[best - 1 : best + 2]
    x = [log(t.what.rate) - log(tries[best].what.rate) for t in near]
    a, b, _ = np.polyfit(x, [t.loss for t in near], 2)
    return Optimum(tries[best].what.rate * exp(-b / (2 * a)), inside=True)


def power(found: Mapping[int, float]) -> tuple[float, float]:
    """(a, b) of rate = a width^b through the best rates of some widths: least squares of logs."""
    b, log_a = np.polyfit([log(width) for width in found], [log(r) for r in found.values()], 1)
    return exp(log_a), float(b)


def grid(widths: Mapping[int, Sequence[Tried]]) -> str:
    rates = sorted({t.what.rate for tries in widths.values() for t in tries})
    rows = []
    for width, tries in widths.items():
        found, best = {t.what.rate: t for t in tries}, min(tries, key=lambda t: t.loss)
        cells = [_cell(found[rate], best) if rate in found else "" for rate in rates]
        top = optimum(tries)
        rows.append([str(width), *cells, f"{top.rate:.2g}" if top.inside else "at the edge"])
    return table(["width", *(f"{rate:g}" for rate in rates), "best rate"], rows)


def _cell(tried: Tried, best: Tried) -> str:
    return f"**{tried.perplexity:.2f}**" if tried is best else f"{tried.perplexity:.2f}"


def rule(widths: Mapping[int, Sequence[Tried]]) -> str:
    tops = {width: optimum(tries) for width, tries in widths.items()}
    found = {width: top.rate for width, top in tops.items() if top.inside}
    spread = ", ".join(f"{SPREAD[width]} at {width}" for width in widths)
    text = (
        f"{STEPS} steps, warm-up {WARMUP:.0%} of them, first weights of deviation {spread}. The "
        "best rate is the lowest point of a parabola through the best try and its neighbours, in "
        "logarithms.\n"
    )
    if len(found) < 2:
        return text
    a, b = power(found)
    says = ", ".join(f"{width}: {a * width**b:.2g}" for width in found)
    return f"{text}\nRule through them: rate = {a:.3g} x width^{b:.2f} ({says}).\n"


# ---------------------------------------------------------------------- all


def courses(known: Sequence[Tried]) -> str:
    """Held-out perplexity after some steps of each run."""
    steps = sorted({step for tried in known for step, _ in tried.curve})
    rows = []
    for tried in known:
        at = dict(tried.curve)
        cells = [f"{exp(at[step]):.2f}" if step in at else "" for step in steps]
        rows.append([tried.what.name, *cells])
    return table(["try", *map(str, steps)], rows)


def all_tries(known: Sequence[Tried]) -> str:
    def order(tried: Tried) -> tuple[bool, int, int, float]:
        return not is_gpt2(tried), tried.what.steps, tried.what.width, tried.loss

    rows = [
        [
            *(SIDES[is_gpt2(t)], str(t.what.width), f"{t.parameters / 1e6:.2f} M"),
            *(str(t.what.steps), f"{t.what.rate:g}", ", ".join(t.what.changes)),
            *(f"{t.perplexity:.2f}", f"{t.seconds:.0f}"),
        ]
        for t in sorted(known, key=order)
    ]
    usual = Try(GPT2, 1, 1.0)
    notes = (
        f"Unless changed: weight decay {usual.weight_decay} (not on norms and biases), beta2 "
        f"{usual.beta2}, gradients clipped at 1, warm-up {usual.warmup:.0%} of the steps, cosine "
        f"to {usual.final_rate:g}, no dropout, heads of {usual.head_width}, seed 0, and of "
        "LuminaNet what its preset says. Batches of 16 x 256 tokens; products in bfloat16 where "
        "the processor multiplies it, else in float32 (AVX2 without BF16, below).\n"
    )
    header = ["side", "width", "parameters", "steps", "rate", "changed", "perplexity", "s"]
    return f"{table(header, rows)}\n{notes}"


def origins(known: Sequence[Tried]) -> str:
    """Where and when the tries were made."""
    places = list(dict.fromkeys(tried.made for tried in known))
    return "".join(f"* {sum(t.made == p for t in known)} tries: {p}\n" for p in places)
