"""What locust's web page gets beside its own: a tab with the figures of tokens, and `/tokens` with
percentile curves. Locust draws charts of all requests together only, so the curves are ours."""

import math
from collections.abc import Mapping, Sequence

from flask import Response, request
from locust.env import Environment

from loadtest import entries

TAB = "tokens"
COLUMNS = [
    ("kind", "Kind"),
    ("name", "Name"),
    ("count", "# Values"),
    *((entries.column(q), f"{q * 100:g}%ile") for q in entries.PERCENTILES),
]
CURVE = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5fbf", "#c97b12")
WIDTH, HEIGHT, MARGIN = 420, 240, 44
PAGE = """<!doctype html><title>tokens</title><meta http-equiv="refresh" content="3">
<style>body{font:14px sans-serif;margin:1em}figure{display:inline-block;margin:.5em}</style>
<h1>Percentile curves</h1>
"""

Curve = Sequence[tuple[float, float]]


def extend(environment: Environment) -> None:
    """Adds tab, its rows and the page to the web page of a run that has one."""
    web = environment.web_ui
    assert web is not None
    assert web.app is not None
    app = web.app
    structure = [{"key": key, "title": title} for key, title in COLUMNS]
    web.template_args |= {
        "extended_tabs": [{"title": "Tokens", "key": TAB}],
        "extended_tables": [{"key": TAB, "structure": structure}],
    }

    @app.after_request
    def add_rows(response: Response) -> Response:
        content = response.get_json(silent=True) if request.path == "/stats/requests" else None
        if content:
            table = {"key": TAB, "data": entries.rows(environment)}
            response.set_data(app.json.dumps({**content, "extended_stats": [table]}))
        return response

    @app.route("/tokens")
    def tokens() -> str:
        return PAGE + "".join(_figure(kind, found) for kind, found in curves(environment).items())


def curves(environment: Environment) -> dict[str, dict[str, Curve]]:
    """Kind -> name -> (quantile, value), of all entries that have values."""
    found: dict[str, dict[str, Curve]] = {}
    for (name, kind), entry in sorted(environment.stats.entries.items()):
        if entry.num_requests:
            points = [(q, float(entry.get_response_time_percentile(q))) for q in CURVE]
            found.setdefault(kind, {})[name] = points
    return found


def _figure(kind: str, found: Mapping[str, Curve]) -> str:
    unit = "tokens/s" if kind == "tokens/s" else "ms"
    return f"<figure>{svg(f'{kind} ({unit})', found)}</figure>"


def svg(title: str, found: Mapping[str, Curve]) -> str:
    """Curves over quantiles, 1 / (1 - q) on a logarithmic axis, so that tails can be seen."""
    top = max((value for points in found.values() for _, value in points), default=0) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<text x="{MARGIN}" y="14" font-size="13">{title}</text>',
    ]
    for share in (0, 0.5, 1):
        y = _y(share)
        parts.append(f'<path d="M{MARGIN} {y}H{WIDTH - 8}" stroke="#ddd"/>')
        parts.append(f'<text x="2" y="{y + 4}">{_label(top * share)}</text>')
    for q in (0, 0.5, 0.9, 0.99, 0.999):
        parts.append(f'<text x="{_x(q):.0f}" y="{HEIGHT - 8}">{q * 100:g}%</text>')
    for colour, points in zip(COLOURS, found.values(), strict=False):
        path = " ".join(f"{_x(q):.1f},{_y(value / top):.1f}" for q, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for row, (colour, name) in enumerate(zip(COLOURS, found, strict=False)):
        parts.append(f'<text x="{MARGIN + 8}" y="{34 + 14 * row}" fill="{colour}">{name}</text>')
    return "".join([*parts, "</svg>"])


def _x(q: float) -> float:
    return MARGIN + (WIDTH - MARGIN - 40) * math.log10(1 / (1 - q)) / 3


def _y(share: float) -> float:
    return HEIGHT - 26 - (HEIGHT - 50) * share


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
