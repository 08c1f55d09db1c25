import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency import (
    BATCHES,
    Timed,
    errors,
    fit,
    main,
    nonnegative,
    order,
    random_text,
    report,
    split,
)
from export.checks import timing
from luminanet.cost.graph_work import FORMS, work
from luminanet.cost.latency import MEASURED, Coefficients, measured, read

TRUE = {
    1: Coefficients(900.0, 300.0, 80.0, 150.0, 60.0, 20.0, 100.0),
    32: Coefficients(800.0, 2000.0, 900.0, 1400.0, 1600.0, 9000.0, 150.0),
}


def timed_by(model: dict[int, Coefficients], count: int) -> list[Timed]:
    topologies = [random_text(seed) for seed in range(count)]
    return [
        Timed(t, {b: {form: c.us(work(t)[form]) for form in FORMS} for b, c in model.items()})
        for t in topologies
    ]


def test_times_that_follow_the_model_are_explained_without_an_error() -> None:
    timed = timed_by(TRUE, 18)
    fitted, others = split(timed)
    assert len(fitted) == 12
    model = fit(fitted)
    for batch in BATCHES:
        assert max(map(abs, errors(model, others)[batch])) < 1e-3
        assert order(model, others, batch) == 1
    assert "| 32 | others | 6 |" in report(model, timed)


def test_no_coefficient_is_negative() -> None:
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert nonnegative(rows, np.array([1.0, 2.0, 3.0])) == pytest.approx([1, 1])
    assert nonnegative(rows, np.array([3.0, 2.0, 1.0])) == pytest.approx([2, 0])


def test_the_command_measures_and_writes_a_model_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUND_S", 0.0)
    where = ["--json", str(tmp_path / "latency.json"), "--page", str(tmp_path / "latency.md")]
    assert main(["--networks", "6", "--sweeps", "1", *where]) == 0
    model = read((tmp_path / "latency.json").read_text())
    assert set(model) == set(measured()) == set(BATCHES)
    assert "benchmarks.latency" in (tmp_path / "latency.md").read_text()


def test_the_shipped_model_says_what_it_was_measured_on() -> None:
    assert "onnxruntime" in json.loads(MEASURED.read_text())["target"]
