"""A file of measured memory becomes gauges, if it is about the graphs that are served."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from luminanet.artifact.manifest import Family
from luminanet.errors import DataError
from serving.metrics.families import Labels
from serving.metrics.memory import Measurement, MemoryGauges, ModelMemory, read
from serving.models.load import Models
from tests.serving.helpers import running

MODEL = ModelMemory(
    model="luminanet",
    backend="ort_cpu",
    task="text-generation",
    name="luminanet-tinystories",
    graphs="f" * 64,
    weights_bytes=1000,
    session_bytes=[3000, 2000, 9000],
    state_bytes=[64, 66, 65],
    load={1: {"uss": [5, 6, 7], "peak_rss": [9, 9, 9]}, 256: {"uss": [50, 70, 60]}},
)
FOUND = Measurement(
    "2026-01-02T03:04:05+00:00", "2 cores of a CPU", {"numpy": "2"}, 0, "command", [MODEL]
)
LABELS = {"model": "luminanet", "backend": "ort_cpu", "task": "text-generation"}
SERVED = {MODEL.labels: MODEL.graphs}


def told(path: Path, served: Mapping[Labels, str]) -> CollectorRegistry:
    registry = CollectorRegistry()
    MemoryGauges(registry).tell_file(path, served)
    return registry


def series(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory.json"
    path.write_text(FOUND.to_json())
    return path


def test_a_file_is_read_as_it_was_written(file: Path) -> None:
    assert read(file) == FOUND


def test_medians_of_runs_are_told_with_date_and_machine(file: Path) -> None:
    registry = told(file, SERVED)
    for kind, expected in ("weights", 1000), ("session", 3000), ("state", 65):
        labels = LABELS | {"kind": kind}
        assert registry.get_sample_value("luminanet_model_memory_bytes", labels) == expected
    for kind, sequences, size in ("uss", "1", 6), ("peak_rss", "1", 9), ("uss", "256", 60):
        labels = LABELS | {"kind": kind, "sequences": sequences}
        assert registry.get_sample_value("luminanet_load_memory_bytes", labels) == size
    name = "luminanet_memory_measured_timestamp_seconds"
    when = datetime.fromisoformat(FOUND.date).timestamp()
    assert registry.get_sample_value(name, LABELS) == when
    about = {"machine": "2 cores of a CPU", "versions": "numpy 2"}
    assert registry.get_sample_value("luminanet_memory_measurement_info", about) == 1


def test_without_a_file_nothing_is_told_and_nothing_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert series(told(tmp_path / "memory.json", SERVED)) == 0
    assert not caplog.messages


def test_what_was_measured_of_other_graphs_is_not_told(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert series(told(file, {MODEL.labels: "0" * 64})) == 0
    (message,) = caplog.messages
    assert "other graphs of luminanet-tinystories" in message
    assert "python -m serving.measure" in message


def test_models_that_are_not_served_are_left_out(file: Path) -> None:
    assert series(told(file, {})) == 0


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{}",
        "\xff",
        json.dumps(asdict(replace(FOUND, format=9))),
        json.dumps(asdict(replace(FOUND, date="yesterday"))),
        json.dumps(asdict(FOUND) | {"models": [{"load": {}}]}),
        json.dumps(asdict(FOUND) | {"models": [asdict(MODEL) | {"load": {"many": {}}}]}),
        json.dumps(asdict(FOUND) | {"colour": "red"}),
    ],
)
def test_a_damaged_file_is_one_line_in_the_log(
    file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(damage, "latin-1")
    with pytest.raises(DataError, match=r"python -m serving\.measure"):
        read(file)
    assert series(told(file, SERVED)) == 0
    (message,) = caplog.messages
    assert "\n" not in message


def test_a_server_tells_the_file_beside_its_artifacts(models: Models, tmp_path: Path) -> None:
    graphs = models.text[Family.LUMINANET].fingerprint
    about = replace(FOUND, models=[replace(MODEL, graphs=graphs)])
    (tmp_path / "memory.json").write_text(about.to_json())
    with running(models, artifacts=tmp_path / "artifacts") as server:
        assert server.metric("model_memory_bytes", **LABELS, kind="weights") == 1000
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(about.to_json())
    with running(models, memory_file=elsewhere) as server:
        assert server.metric("model_memory_bytes", **LABELS, kind="weights") == 1000


def test_a_fingerprint_follows_the_bytes_of_what_is_served(models: Models) -> None:
    prints = {model.fingerprint for model in models.all}
    assert len(prints) == 3
    model = models.text[Family.GPT2]
    assert replace(model, graphs={}).fingerprint not in prints
