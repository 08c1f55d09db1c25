"""Charts of a sweep: percentile curves at one rate, and what happens to the knee."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.load.figures import KNEE_SHARE, MEASURES, Cell, Objective, quantiles, values

COLOURS = {"luminanet": "#1b6ca8", "gpt2": "#d1495b"}
NAMES = {"luminanet": "LuminaNet", "gpt2": "GPT-2"}
NINES = (0.5, 0.9, 0.99, 0.999)
ENDINGS = ("svg", "png")


def curves(cells: Iterable[Cell], rate: float, objective: Objective) -> Figure:
    """Percentile curves of every measure, all models at one rate."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, measure in zip(figure.subplots(2, 2).flat, MEASURES, strict=True):
        for cell in (cell for cell in cells if cell.rate == rate):
            _curve(axes, cell, values(cell.samples, measure))
        limit = {"TTFT": objective.ttft_s, "TPOT": objective.tpot_s}.get(measure)
        if limit is not None:
            axes.axhline(limit * 1e3, color="grey", linestyle=":", label="objective")
        axes.set_title(measure)
        axes.set_ylabel("ms")
        axes.set_yscale("log")
        axes.set_xscale("log")
        axes.set_xticks([1 / (1 - q) for q in NINES], [f"p{q * 100:g}" for q in NINES])
        axes.xaxis.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"Percentiles at {rate:g} requests/s offered to each, open loop")
    return figure


def _curve(axes: Axes, cell: Cell, seconds: Sequence[float]) -> None:
    """As far as there are values: a quantile beyond the last of them says nothing."""
    if not seconds:
        return
    ordered = np.sort(seconds)[: len(seconds)]
    q = np.arange(len(ordered)) / len(ordered)
    axes.step(
        1 / (1 - q),
        ordered * 1e3,
        where="post",
        color=COLOURS[cell.model],
        label=f"{NAMES[cell.model]} ({len(seconds)})",
    )


def sweep(cells: Sequence[Cell], objective: Objective) -> Figure:
    """Over the offered rate: p50 and p99 of the whole answer, requests that met the objective, and
    tokens per second."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    latency, good, tokens = figure.subplots(1, 3)
    for model, colour in COLOURS.items():
        found = [cell for cell in cells if cell.model == model]
        rates = [cell.rate for cell in found]
        times = [quantiles(values(cell.samples, "end to end")) for cell in found]
        for index, line in ((0, "--"), (2, "-")):
            label = f"{NAMES[model]} p{(50, 90, 99)[index]}"
            ys = [row[index] * 1e3 for row in times]
            latency.plot(rates, ys, line, marker="o", color=colour, label=label)
        shares = [cell.share(objective) * 100 for cell in found]
        good.plot(rates, shares, marker="o", color=colour, label=NAMES[model])
        speeds = [cell.tokens_per_second for cell in found]
        tokens.plot(rates, speeds, marker="o", color=colour, label=NAMES[model])
    good.axhline(KNEE_SHARE * 100, color="grey", linestyle=":", label="knee")
    latency.set_yscale("log")
    for axes, title in (
        (latency, "done - intended, ms"),
        (good, "within the objective, %"),
        (tokens, "tokens/s delivered"),
    ):
        axes.set_title(title)
        axes.set_xlabel("requests/s offered")
        axes.set_xscale("log")
        rates = sorted({cell.rate for cell in cells})
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.xaxis.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """As SVG, of equal bytes for equal figures, and as PNG."""
    with mpl.rc_context({"svg.hashsalt": name}):
        for ending in ENDINGS:
            metadata = {"Date": None} if ending == "svg" else None
            figure.savefig(folder / f"{name}.{ending}", dpi=110, metadata=metadata)
