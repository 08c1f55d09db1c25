"""What is shipped, read as it is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "monitoring" / "prometheus"
GRAFANA = ROOT / "monitoring" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))

Object = dict[str, Any]


def read_json(path: Path) -> Object:
    found: Object = json.loads(path.read_text("utf-8"))
    return found


def read_yaml(path: Path) -> Object:
    found: Object = yaml.safe_load(path.read_text("utf-8"))
    return found


def panels() -> Iterator[tuple[str, Object]]:
    """Every panel, with the name of its dashboard."""
    for path in DASHBOARDS:
        for panel in read_json(path)["panels"]:
            yield path.stem, panel


def rules(kind: str) -> list[Object]:
    """Every rule that has the key `record` or `alert`."""
    groups = [group for path in RULES for group in read_yaml(path)["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def as_question(alert: str) -> str:
    """An alert's expression as a question that is answered with 0 or 1 instead of by silence:
    comparisons outside of selectors get `bool`; `absent(x)` asks for x."""
    if found := re.fullmatch(r"absent\((.*)\)", alert):
        return found[1]
    pieces = re.split(r"(\{[^}]*\})", alert)
    compared = [
        piece if piece.startswith("{") else re.sub(r"(==|>=|<=|[<>])", r"\1 bool", piece)
        for piece in pieces
    ]
    return "".join(compared)


def metrics_in(expr: str) -> set[str]:
    """Names of metrics and of recorded series."""
    without_labels = re.sub(r"\{[^}]*\}|by \([^)]*\)|on \([^)]*\)", "", expr)
    return set(re.findall(r"\b(?:luminanet[_:]|process_)[\w:]+", without_labels))
