"""What Prometheus answers for the panels of a dashboard -> a picture of it.

Grafana draws them its own way; here one sees that every question has an answer, and which.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from luminanet.errors import MissingExtraError
from monitoring.board import COLUMNS, HIGH, LOW, Board, Kind, Limit, Panel, Query, Unit, legend
from monitoring.live import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Answers = Mapping[Query, Sequence[Series]]
"""What a query gave over time."""

DRAWN = "drawn by matplotlib from Prometheus' reply, not a Grafana screenshot"
WIDTH, ROW, MARGIN, DPI = 1400, 38, 30, 90
"""In pixels: the picture, one row of a panel, and the lines above and below."""
COLOURS = {"luminanet": "#c2410c", "gpt2": "#1d4ed8"}
OTHERS = ("#0f766e", "#7c3aed", "#a16207", "#be185d", "#4d7c0f", "#475569", "#0369a1", "#b45309")
STYLES = ("-", "--", ":", "-.")
GOOD, BAD, PLAIN = "#15803d", "#b91c1c", "#334155"
LETTERS = 230
"""That fit into a line as wide as the picture."""
RATE_WINDOW_S = 10.0
"""The window of rates, in the place of Grafana's variable: some scrapes."""


def png(board: Board, answers: Answers, span_s: tuple[float, float], about: str) -> bytes:
    """A picture with every panel where Grafana has it. `span_s`: begin and end, in seconds since
    1970; `about`: where the answers come from.

    Raises MissingExtraError without matplotlib.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("matplotlib", "dev") from error
    places, rows = _places(board.panels)
    page = Image.new("RGB", (WIDTH, MARGIN + rows * ROW + MARGIN), "white")
    with mpl.rc_context({"font.size": 8, "axes.titlesize": 9, "axes.titleweight": "bold"}):
        for panel, (row, column) in zip(board.panels, places, strict=True):
            size = WIDTH * panel.width // COLUMNS, ROW * panel.height
            drawn = _image(size, partial(_draw, panel, answers, span_s))
            page.paste(drawn, (WIDTH * column // COLUMNS, MARGIN + ROW * row))
        for text, top in ((f"{board.title}: {DRAWN}", 0), (about, MARGIN + rows * ROW)):
            drawn = _image((WIDTH, MARGIN), partial(_line, text))
            page.paste(drawn, (0, top))
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()


def _image(size: tuple[int, int], draw: Callable[["Figure"], object]) -> Image.Image:
    """What `draw` draws, as wide and high in pixels. Each has its own layout, which is quick."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # not annotated
    draw(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _line(text: str, figure: "Figure") -> None:
    figure.text(0.5, 0.5, text, ha="center", va="center", size=10)


def _places(panels: Sequence[Panel]) -> tuple[list[tuple[int, int]], int]:
    """Row and column of each panel, from left to right and from top to bottom; all rows."""
    places, row, column, tallest = [], 0, 0, 0
    for panel in panels:
        if column + panel.width > COLUMNS:
            row, column, tallest = row + tallest, 0, 0
        places.append((row, column))
        column, tallest = column + panel.width, max(tallest, panel.height)
    return places, row + tallest


def _draw(panel: Panel, answers: Answers, span_s: tuple[float, float], figure: "Figure") -> None:
    axes = figure.subplots()
    axes.set_title(panel.title, loc="left")
    named = [
        (legend(query, dict(series.labels)), _since(series, span_s[0]))
        for query in panel.queries
        for series in answers[query]
        if any(map(math.isfinite, series.values))
    ]
    if not named:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=BAD)
        axes.set_axis_off()
        return
    draw = {Kind.LINES: _lines, Kind.HEAT: _heat, Kind.NUMBER: _numbers, Kind.BARS: _bars}
    draw[panel.kind](axes, panel, named)
    if panel.kind in (Kind.LINES, Kind.HEAT):
        axes.set_xlim(0, span_s[1] - span_s[0])
        axes.set_xlabel("seconds", labelpad=1)


def _since(series: Series, begin_s: float) -> Series:
    return Series(series.labels, [t - begin_s for t in series.times], series.values)


def _last(series: Series) -> float:
    return [value for value in series.values if math.isfinite(value)][-1]


# ---------------------------------------------------------------------- kinds of panels

Named = Sequence[tuple[str, Series]]


def _lines(axes: "Axes", panel: Panel, named: Named) -> None:
    ends = {name: series for name, series in named if name.endswith((LOW, HIGH))}
    counts: dict[str, int] = {}
    for place, (name, series) in enumerate(named):
        if name in ends:
            continue
        colour = _colour(name, place)
        style = STYLES[counts.setdefault(colour, 0) % len(STYLES)]
        counts[colour] += 1
        label = f"{name}: {_text(_last(series), panel.unit)}"
        axes.plot(series.times, series.values, style, color=colour, lw=1.3, label=label)
        if (low := ends.get(name + LOW)) and (high := ends.get(name + HIGH)):
            axes.fill_between(low.times, low.values, high.values, color=colour, alpha=0.15, lw=0)
    _limit(axes, panel.limit, named)
    _value_axis(axes.yaxis, panel.unit)
    axes.grid(visible=True, alpha=0.25)
    if panel.unit is not Unit.TIMES:
        top = max(value for _, series in named for value in series.values if value == value)
        axes.set_ylim(0, None if top else 1)
    names = axes.get_legend_handles_labels()[1]
    columns = max(1, LETTERS * panel.width // COLUMNS // (max(map(len, names)) + 8))
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), frameon=False, ncols=columns)


def _limit(axes: "Axes", limit: Limit | None, named: Named) -> None:
    """A dashed line, where it does not press everything else to the ground."""
    if limit is None:
        return
    top = max((v for _, s in named for v in s.values if math.isfinite(v)), default=0.0)
    if limit.value <= 4 * top:
        axes.axhline(limit.value, color=BAD, ls="--", lw=0.8)
    else:
        text = f"limit {limit.value:g}, far above"
        axes.text(0.99, 0.97, text, transform=axes.transAxes, ha="right", va="top", color=BAD)


def _heat(axes: "Axes", panel: Panel, named: Named) -> None:
    from matplotlib.colors import PowerNorm

    rows = sorted(((float(series.labels["le"]), series) for _, series in named), key=lambda r: r[0])
    edges = [edge for edge, _ in rows]
    times = np.array(rows[0][1].times)
    cumulative_BT = np.array([series.values for _, series in rows])
    counts_BT = np.clip(np.diff(cumulative_BT, axis=0, prepend=0.0), 0, None)
    used = np.flatnonzero(counts_BT.sum(axis=1) > 0)
    low, high = (used.min(), used.max()) if len(used) else (0, 0)
    shown_BT = np.ma.masked_less_equal(counts_BT[low : high + 1], 0)
    mesh = axes.pcolormesh(
        times,
        np.arange(low, high + 1),
        shown_BT,
        cmap="Oranges",
        norm=PowerNorm(0.5, 0),
        shading="nearest",
    )
    axes.figure.colorbar(mesh, ax=axes, label=f"in {RATE_WINDOW_S:g} s", pad=0.01)
    marks = np.arange(low, high + 1, max(1, (high - low) // 8 or 1))
    axes.set_yticks(marks, ["≤ " + _text(edges[k], panel.unit) for k in marks])


def _numbers(axes: "Axes", panel: Panel, named: Named) -> None:
    axes.set_axis_off()
    shown = named[:4]
    for k, (name, series) in enumerate(shown):
        value = _last(series)
        place = ((k + 0.5) / len(shown), 0.55)
        size = 26 if len(shown) < 3 else 18
        text = _text(value, panel.unit)
        colour = _judged(value, panel.limit)
        axes.text(*place, text, transform=axes.transAxes, ha="center", va="center", size=size,
                  color=colour, weight="bold")  # fmt: skip
        if name != panel.title:
            axes.text(place[0], 0.12, name, transform=axes.transAxes, ha="center", color=PLAIN)


def _bars(axes: "Axes", panel: Panel, named: Named) -> None:
    ordered = sorted(named, key=lambda pair: _natural(pair[0]), reverse=True)
    values = [_last(series) for _, series in ordered]
    names = [name for name, _ in ordered]
    colours = [
        _judged(value, panel.limit) if panel.limit else _colour(name, 0)
        for name, value in zip(names, values, strict=True)
    ]
    bars = axes.barh(range(len(names)), values, color=colours, height=0.7)
    axes.bar_label(bars, [" " + _text(value, panel.unit) for value in values])
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.15)
    _value_axis(axes.xaxis, panel.unit)
    if panel.limit and panel.limit.value <= 4 * max(values):
        axes.axvline(panel.limit.value, color=BAD, ls="--", lw=0.8)


def _natural(name: str) -> list[Any]:
    """Numbers within names by their size: 32 before 256."""
    return [(0, int(w), "") if w.isdigit() else (1, 0, w) for w in name.replace(",", " ").split()]


def _colour(name: str, place: int) -> str:
    known = [colour for model, colour in COLOURS.items() if name.startswith(model)]
    return known[0] if known else OTHERS[place % len(OTHERS)]


def _judged(value: float, limit: Limit | None) -> str:
    if limit is None:
        return PLAIN
    return GOOD if (value < limit.value) == (limit.good == "below") else BAD


# ---------------------------------------------------------------------- units


def _text(value: float, unit: Unit) -> str:
    """A value with its unit, as short as Grafana writes it."""
    if not math.isfinite(value):
        return "none yet" if math.isnan(value) else "∞"
    if unit is Unit.SECONDS:
        return _duration(value)
    if unit is Unit.BYTES:
        return _scaled(value, "B")
    if unit is Unit.SHARE:
        return f"{100 * value:.3g} %"
    if unit is Unit.TIMES:
        return f"{value:.3g} ×"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{text} /s" if unit is Unit.RATE else text


def _duration(value: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return "0 s" if value == 0 else f"{value / 1e-6:.3g} µs"


def _scaled(value: float, name: str) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{name}"
    return f"{value:.3g} {name}"


def _value_axis(axis: Any, unit: Unit) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _text(value, unit)))
