"""Entries of two families -> pictures of quality against cost, as SVG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.text.costs import FP32, INT8, LAST, POSITION, STEP
from benchmarks.text.entries import Entry
from benchmarks.tinystories.frontier import Figure, bits, frontier, timed
from luminanet.artifact.manifest import Family
from luminanet.errors import MissingExtraError

PANELS: dict[str, Figure] = {
    f"million MACs of a token at position {POSITION}": lambda e: e.macs / 1e6,
    "ms a token, fp32, batch 1": timed(STEP, FP32, 1),
    "ms a token, fp32, batch 32": timed(STEP, FP32, 32),
    f"kB of state after position {LAST}": lambda e: e.state_bytes / 1000,
    "ms a token, int8, batch 1": timed(STEP, INT8, 1),
    "ms a token, int8, batch 32": timed(STEP, INT8, 32),
}
COLOURS = {Family.LUMINANET: "#c2410c", Family.GPT2: "#1d4ed8"}
NAMES = {Family.LUMINANET: "LuminaNet", Family.GPT2: "GPT-2"}


@contextmanager
def picture(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure of matplotlib that is an SVG when the block ends. Same content, same bytes.

    Raises MissingExtraError without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise MissingExtraError("matplotlib", "dev") from error
    with mpl.rc_context({"svg.hashsalt": "luminanet", "svg.fonttype": "none", "font.size": 8}):
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasSVG(canvas)
        yield canvas
        canvas.savefig(path, format="svg", metadata={"Date": None})


def draw(entries: Sequence[Entry], path: Path) -> None:
    """Bits per byte against each cost, with the frontier of each family. Same entries, same bytes.

    Raises MissingExtraError without matplotlib.
    """
    with picture(path, (11, 6.5)) as canvas:
        from matplotlib.lines import Line2D

        for axes, (label, cost) in zip(canvas.subplots(2, 3).flat, PANELS.items(), strict=True):
            _panel(axes, entries, label, cost)
        families = [family for family in COLOURS if any(e.family is family for e in entries)]
        lines = [Line2D([], [], color=COLOURS[family], label=NAMES[family]) for family in families]
        canvas.legend(handles=lines, loc="outside upper right", ncols=2)


def _panel(axes: Any, entries: Sequence[Entry], label: str, cost: Figure) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    costs = [found for e in entries if (found := cost(e)) is not None]
    is_wide = bool(costs) and max(costs) > 100 * min(costs)
    axes.set(xscale="log", xlabel=label, ylabel="bits per byte")
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, alpha=0.2)
    for family, colour in COLOURS.items():
        own = [e for e in entries if e.family is family and cost(e) is not None]
        axes.scatter([cost(e) for e in own], [bits(e) for e in own], c=colour, s=14)
        for e in own:
            axes.annotate(e.name, (cost(e), bits(e)), (3, 3), textcoords="offset points", size=6)
        best = frontier(own, cost)
        axes.step([cost(e) for e in best], [bits(e) for e in best], c=colour, where="post")
