"""Recording rules and alerts, by Prometheus' own tool."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from luminanet.errors import MissingExtraError
from monitoring import live
from serving.models.load import Models
from tests.monitoring.configuration import (
    PROMETHEUS,
    ROOT,
    RULES,
    UNIT_TESTS,
    Object,
    as_question,
    metrics_in,
    panels,
    read_yaml,
    rules,
)
from tests.serving.helpers import running

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: apt-get install --no-install-recommends prometheus"
)


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    command = [PROMTOOL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@needs_promtool
def test_rules_and_configuration_are_as_prometheus_wants_them() -> None:
    for what, files in ("rules", RULES), ("config", [PROMETHEUS / "prometheus.yml"]):
        done = promtool("check", what, *files)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_unit_test_that_is_wrong_is_found(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    alerts = tmp_path / "prometheus" / "rules" / "alerts.yml"
    alerts.write_text(alerts.read_text("utf-8").replace("ready == 0", "ready == 1"), "utf-8")
    assert promtool("test", "rules", tmp_path / "prometheus/tests/service.yml").returncode != 0


def test_every_alert_is_tested_to_fire_and_not_to() -> None:
    cases: list[Object] = [
        case
        for path in UNIT_TESTS
        for test in read_yaml(path)["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    is_quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == is_quiet == {rule["alert"] for rule in rules("alert")}


def test_every_alert_has_a_severity_a_summary_and_a_row_that_says_what_to_do() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(LuminaNet\w+)` \| (.+) \|$", page, re.MULTILINE))
    assert set(rows) == {rule["alert"] for rule in rules("alert")}
    for rule in rules("alert"):
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_recorded_series_are_named_level_metric_operation() -> None:
    names = [rule["record"] for rule in rules("record")]
    assert all(re.fullmatch(r"luminanet:[a-z_]+:[a-z0-9]+", name) for name in names)
    labelled = {(r["record"], str(r.get("labels"))) for r in rules("record")}
    assert len(labelled) == len(names)


def test_what_is_asked_for_is_exported_or_recorded(models: Models) -> None:
    recorded = {rule["record"] for rule in rules("record")}
    asked = {name for rule in rules("record") + rules("alert") for name in metrics_in(rule["expr"])}
    asked |= {
        name for _, panel in panels() for t in panel["targets"] for name in metrics_in(t["expr"])
    }
    with running(models, shadow=1.0) as server:
        page = server.client.get("/metrics").text
    families = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
    ends = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    exported = {name + end for name, kind in families.items() for end in ends.get(kind, ("",))}
    assert len(asked) > 30
    assert asked - recorded <= exported


@pytest.mark.parametrize(
    ("alert", "question"),
    [
        ("a < 1", "a < bool 1"),
        ('a{b="c",d>="e"} >= 2', 'a{b="c",d>="e"} >= bool 2'),
        ("a > 1 and on (x) b == 0", "a > bool 1 and on (x) b == bool 0"),
        ('absent(up{job="luminanet"})', 'up{job="luminanet"}'),
    ],
)
def test_an_alert_is_asked_so_that_silence_is_no_answer(alert: str, question: str) -> None:
    assert as_question(alert) == question


def test_without_prometheus_one_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PROGRAM", "no-such-program")
    with (
        pytest.raises(MissingExtraError, match="apt-get install"),
        live.prometheus("127.0.0.1:1", tmp_path),
    ):
        pass
