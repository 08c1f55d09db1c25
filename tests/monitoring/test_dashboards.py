"""The dashboards: their JSON is what the code writes, fits Grafana's schema as its SDK has it, and
every panel says what it asks, in which unit."""

import enum
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import ConfigDict, TypeAdapter

from monitoring.board import Board, Kind, Panel, Query, Unit
from monitoring.dashboards import BOARDS
from monitoring.render import to_json
from tests.monitoring.configuration import (
    DASHBOARDS,
    ROOT,
    Object,
    metrics_in,
    panels,
    read_json,
    rules,
)

PANELS = list(panels())
IDS = [f"{name}: {panel['title']}" for name, panel in PANELS]
HOW = ConfigDict(arbitrary_types_allowed=True)


def test_the_command_writes_what_is_committed(tmp_path: Path) -> None:
    """Otherwise: python -m monitoring.dashboards"""
    command = [sys.executable, "-m", "monitoring.dashboards", "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=300)
    assert [path.name for path in DASHBOARDS] == sorted(p.name for p in tmp_path.iterdir())
    for path in DASHBOARDS:
        assert path.read_text("utf-8") == (tmp_path / path.name).read_text("utf-8"), path.name


# ---------------------------------------------------------------------- Grafana's schema


def check_types(thing: Any) -> None:
    """Every attribute of the SDK's objects is of the type that Grafana's schema gives it."""
    if isinstance(thing, list):
        for each in thing:
            check_types(each)
    elif type(thing).__module__.startswith("grafana_foundation_sdk") and not isinstance(
        thing, enum.Enum
    ):
        for name, kind in get_type_hints(type(thing)).items():
            value = getattr(thing, name)
            TypeAdapter(kind, config=HOW).validate_python(value)
            check_types(value)


def read_back(data: Object) -> Dashboard:
    register_default_plugins()
    return Dashboard.from_json(data)


def again(board: Dashboard) -> Any:
    return json.loads(json.dumps(board, cls=JSONEncoder))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_holds_nothing_that_the_schema_does_not_know(path: Path) -> None:
    data = read_json(path)
    assert again(read_back(data)) == data


def test_what_the_schema_does_not_know_is_found() -> None:
    data = read_json(DASHBOARDS[0])
    data["panels"][0]["targets"][0]["expression"] = "up"
    data["panels"][0]["colour"] = "red"
    assert again(read_back(data)) != data


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_has_the_types_of_the_schema(board: Board) -> None:
    check_types(read_back(json.loads(to_json(board))))


def test_a_wrong_type_is_found() -> None:
    data = read_json(DASHBOARDS[0])
    data["panels"][0]["title"] = 7
    with pytest.raises(ValueError, match="valid string"):
        check_types(read_back(data))


# ---------------------------------------------------------------------- panels


def test_dashboards_have_addresses_and_titles_of_their_own() -> None:
    boards = [read_json(path) for path in DASHBOARDS]
    assert {board["uid"] for board in boards} == {f"luminanet-{p.stem}" for p in DASHBOARDS}
    assert len({board["title"] for board in boards}) == len(boards) == 5
    for board in boards:
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert not board["editable"]


@pytest.mark.parametrize(("_name", "panel"), PANELS, ids=IDS)
def test_every_panel_has_a_unit_a_description_and_a_query(_name: str, panel: Object) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in set(Unit)
    assert panel["targets"]
    assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_do_not_overlap_and_stay_on_the_page() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in read_json(path)["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + i, at["y"] + k) for i in range(at["w"]) for k in range(at["h"])}
            assert not taken & cells, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_heat_maps_ask_for_buckets() -> None:
    for _, panel in PANELS:
        formats = {target["format"] for target in panel["targets"]}
        assert formats == {"heatmap" if panel["type"] == "heatmap" else "time_series"}
        if panel["type"] == "heatmap":
            assert [target["legendFormat"] for target in panel["targets"]] == ["{{le}}"]


def test_a_panel_whose_question_an_alert_asks_shows_where_it_fires() -> None:
    limits = {
        "Time to first token": ("LuminaNetFirstTokenSlow", "latency"),
        "Time per output token": ("LuminaNetTokensSlow", "latency"),
        "Share of failed requests": ("LuminaNetErrors", "traffic"),
        "Places taken in the queue": ("LuminaNetQueueFull", "engine"),
        "Self-test: distance from the reference": ("LuminaNetSelfTestNearBound", "engine"),
        "Memory, ratio": ("LuminaNetMemoryAdvantageLost", "advantage"),
    }
    alerts = {rule["alert"]: rule["expr"] for rule in rules("alert")}
    for title, (alert, name) in limits.items():
        (panel,) = (p for board, p in PANELS if board == name and p["title"] == title)
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert float(alerts[alert].split()[-1]) == steps[1]["value"], title
        assert [step["color"] for step in steps] == (
            ["red", "green"] if name == "advantage" else ["green", "red"]
        )


def test_recorded_series_that_panels_ask_for_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    asked = {
        name
        for _, panel in PANELS
        for target in panel["targets"]
        for name in metrics_in(target["expr"])
        if ":" in name
    }
    assert asked
    assert asked <= recorded


def test_the_band_of_an_interval_is_drawn_between_its_ends() -> None:
    (panel,) = (p for b, p in PANELS if b == "advantage" and p["title"] == "Whole requests")
    fills = {
        override["matcher"]["options"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "custom.fillBelowTo"
    }
    assert fills == {"p50 high": "p50 low", "p99 high": "p99 low"}


@pytest.mark.parametrize(
    ("changes"),
    [
        {"title": ""},
        {"description": "no full stop"},
        {"queries": []},
        {"width": 25},
        {"kind": Kind.HEAT, "queries": [Query("a", "a"), Query("b", "b")]},
        {"queries": [Query("a", "x high")]},
    ],
)
def test_a_panel_that_cannot_be_is_refused(changes: Object) -> None:
    fine: Object = {
        "title": "Speed",
        "description": "How fast it is.",
        "unit": Unit.RATE,
        "queries": [Query("up", "up")],
    }
    Panel(**fine)
    with pytest.raises(AssertionError):
        Panel(**{**fine, **changes})
