"""Pictures of answers: one panel of each kind, and how values are written."""

import io
import math

import pytest
from PIL import Image

from monitoring import plots
from monitoring.board import Board, Kind, Limit, Panel, Query, Unit, with_interval
from monitoring.live import Series

TIMES = [100.0, 101.0, 102.0]
PANELS = [
    Panel("Ratio", "A band.", Unit.TIMES, with_interval("p50", "a"), limit=Limit(1, "above")),
    Panel("Heat", "Buckets.", Unit.SECONDS, [Query("b", "{{le}}")], Kind.HEAT),
    Panel("Now", "A number.", Unit.SHARE, [Query("c", "Now")], Kind.NUMBER, Limit(0.01)),
    Panel("Bars", "Some bars.", Unit.BYTES, [Query("d", "{{model}}")], Kind.BARS),
]
BOARD = Board("board", "A board", "All kinds of panels.", PANELS)


def answers() -> dict[Query, list[Series]]:
    found = {
        q: [Series({"model": "gpt2"}, TIMES, [1, math.nan, 2])] for p in PANELS for q in p.queries
    }
    found[PANELS[1].queries[0]] = [
        Series({"le": edge}, TIMES, [count] * 3) for edge, count in (("0.1", 1), ("+Inf", 3))
    ]
    return found


def size_of(picture: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


def test_every_kind_of_panel_is_drawn_and_an_answer_changes_the_picture() -> None:
    full = plots.png(BOARD, answers(), (100.0, 102.0), "a test")
    empty = plots.png(BOARD, {query: [] for query in answers()}, (100.0, 102.0), "a test")
    assert size_of(full) == size_of(empty) == (plots.WIDTH, 16 * plots.ROW + 2 * plots.MARGIN)
    assert full != empty


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0032, Unit.SECONDS, "3.2 ms"),
        (0.00005, Unit.SECONDS, "50 µs"),
        (7200.0, Unit.SECONDS, "2 h"),
        (149e6, Unit.BYTES, "149 MB"),
        (0.012, Unit.SHARE, "1.2 %"),
        (1.456, Unit.TIMES, "1.46 ×"),
        (12345.0, Unit.RATE, "12,345 /s"),
        (math.nan, Unit.COUNT, "none yet"),
        (math.inf, Unit.SECONDS, "∞"),
    ],
)
def test_values_are_written_with_their_units(value: float, unit: Unit, text: str) -> None:
    assert plots._text(value, unit) == text
