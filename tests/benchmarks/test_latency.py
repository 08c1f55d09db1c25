import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import costs
from benchmarks.latency import (
    BATCHES,
    Timed,
    errors,
    explain,
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
from luminanet.cost.model import FORMS_MODEL, LATENCY_MODEL, Coefficients, Work, read, shipped
from tests.nets import random_net
from training.checkpoint import Checkpoint, save

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
    assert set(model) == set(shipped(LATENCY_MODEL)) == set(BATCHES)
    assert "benchmarks.latency" in (tmp_path / "latency.md").read_text()


@pytest.mark.parametrize("path", [LATENCY_MODEL, FORMS_MODEL])
def test_a_shipped_model_says_what_it_was_measured_on(path: Path) -> None:
    assert "onnxruntime" in json.loads(path.read_text())["target"]


def test_the_costs_of_forms_are_found_again() -> None:
    true = shipped(FORMS_MODEL)[64]
    rng = np.random.default_rng(0)
    works = [Work(*rng.integers(1, 1000, 2).tolist(), *rng.integers(1, 9**6, 2)) for _ in range(20)]
    assert explain(works, [true.us(work) for work in works]) == true


def test_the_command_of_forms_writes_a_model_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUND_S", 0.0)
    monkeypatch.setattr(costs, "SIZES", ((4, 6, 8, 2),))
    save(tmp_path / "mine" / "ckpt.pt", Checkpoint("mine", random_net(1, text=False)))
    assert costs.main([str(tmp_path), "--json", str(tmp_path / "forms.json")]) == 0
    assert set(read((tmp_path / "forms.json").read_text())) == set(shipped(FORMS_MODEL))
