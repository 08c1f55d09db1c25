"""A real Prometheus scrapes a real server under load: every question of a dashboard, every rule and
every alert has an answer, and the loss of an advantage is told."""

import math
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luminanet.artifact.manifest import Family
from monitoring import live
from monitoring.board import WINDOW
from monitoring.live import Prometheus, prometheus, until
from monitoring.load import burst, load
from serving.metrics.advantage import Pair, Times
from serving.metrics.memory import Measurement, ModelMemory
from serving.models.load import Models
from tests.monitoring.configuration import as_question, panels, rules
from tests.serving.helpers import Running, running

pytestmark = pytest.mark.skipif(
    shutil.which(live.PROGRAM) is None,
    reason="no prometheus: apt-get install --no-install-recommends prometheus",
)
PATIENCE_S = 300.0
LOADED_S = 60.0
ADVANTAGES = {
    "LuminaNetLatencyAdvantageLost",
    "LuminaNetThroughputAdvantageLost",
    "LuminaNetMemoryAdvantageLost",
}
MB = 1_000_000


def pairs(count: int, *, swapped: bool) -> Iterator[Pair]:
    """As if the slower model took twice as long; a p99 needs more than a short load gives."""
    draw = random.Random(0)
    for _ in range(count):
        fast_s = draw.lognormvariate(-5, 0.3)
        fast = Times(fast_s, fast_s / 10, 4 * fast_s)
        slow = Times(*(2 * value for value in fast))
        yield Pair(slow, fast) if swapped else Pair(fast, slow)


def memory(models: Models, path: Path, *, swapped: bool) -> Path:
    """A file of measurements in which one text model takes twice as much as the other."""
    found = []
    for model in models.text.values():
        manifest = model.manifest
        is_large = (manifest.family is Family.GPT2) != swapped
        size = 200 * MB if is_large else 100 * MB
        taken = ModelMemory(
            model=manifest.family.value,
            backend=model.backend.name,
            task=manifest.task.value,
            name=manifest.name,
            graphs=model.fingerprint,
            weights_bytes=size // 10,
            session_bytes=[size // 5],
            state_bytes=[size // 1000],
            load={n: {"uss": [size], "peak_uss": [size + n], "peak_rss": [size + n]}
                  for n in (1, 32, 256)},
        )  # fmt: skip
        found.append(taken)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    path.write_text(Measurement(now, "a machine", {"numpy": "2"}, 0, "a test", found).to_json())
    return path


@contextmanager
def watched(
    models: Models, folder: Path, *, swapped: bool, at_once: bool
) -> Iterator[tuple[Running, Prometheus]]:
    measured = memory(models, folder / "memory.json", swapped=swapped)
    options = {"shadow": 1.0, "max_batch": 4, "queue_limit": 4, "memory_file": measured}
    (folder / "prometheus").mkdir()
    with running(models, **options) as server:
        shadow = server.service._shadow
        assert shadow is not None
        for pair in pairs(300, swapped=swapped):
            shadow.pairs.add(pair)
        target = server.client.base_url.netloc.decode()
        with prometheus(target, folder / "prometheus", at_once=at_once) as asked:
            yield server, asked


def questions() -> list[str]:
    """Every expression of a dashboard, a rule and an alert, as it is answered under load."""
    shown = [t["expr"].replace(WINDOW, "1m") for _, panel in panels() for t in panel["targets"]]
    recorded = []
    for rule in rules("record"):
        labels = ",".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
        recorded.append(f"{rule['record']}{{{labels}}}")
    return [*shown, *recorded, *(as_question(rule["expr"]) for rule in rules("alert"))]


def unanswered(asked: Prometheus, exprs: Sequence[str]) -> list[str]:
    """Those that nothing, or nothing but NaN, is the answer to."""
    return [
        expr
        for expr in exprs
        if not any(math.isfinite(series.values[0]) for series in asked.now(expr))
    ]


def firing(asked: Prometheus) -> set[str]:
    return {series.labels["alertname"] for series in asked.now('ALERTS{alertstate="firing"}')}


def test_no_question_is_left_without_an_answer(models: Models, tmp_path: Path) -> None:
    with watched(models, tmp_path, swapped=False, at_once=False) as (server, asked):
        url = str(server.client.base_url)
        left = questions()
        assert len(left) > 100

        def all_answered() -> bool:
            left[:] = unanswered(asked, left)
            return not left

        with load(url, clients=4, seconds=LOADED_S):
            burst(url, clients=16)
            try:
                until(all_answered, PATIENCE_S, "an answer to every question")
            except RuntimeError:
                pytest.fail("\n".join(["no answer to", *left]))
        assert {rule["health"] for rule in asked.rules()} == {"ok"}
        assert not ADVANTAGES & firing(asked)


def test_swapping_the_models_fires_the_alerts_on_lost_advantages(
    models: Models, tmp_path: Path
) -> None:
    with watched(models, tmp_path, swapped=True, at_once=True) as (_, asked):
        until(lambda: firing(asked) >= ADVANTAGES, PATIENCE_S, "the alerts fire")
        (ratio,) = asked.now(
            'luminanet:latency_advantage:ratio{quantity="request_duration",quantile="0.5"}'
        )
        assert ratio.values[0] == pytest.approx(0.5)


def test_a_server_that_goes_away_is_told(models: Models, tmp_path: Path) -> None:
    with watched(models, tmp_path, swapped=False, at_once=True) as (server, asked):
        until(lambda: bool(asked.now('up{job="luminanet"} == 1')), PATIENCE_S, "a scrape")
        assert "LuminaNetDown" not in firing(asked)
        server.server.should_exit = True
        until(lambda: "LuminaNetDown" in firing(asked), PATIENCE_S, "the alert fires")
