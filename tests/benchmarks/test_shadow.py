"""The benchmark of shadow traffic: its arithmetic, and one short turn with tiny networks."""

from pathlib import Path

import pytest

from benchmarks import shadow
from benchmarks.shadow import change
from tests.nets import write_tiny_artifacts


def test_a_change_is_that_of_the_quantile_and_lies_in_its_interval() -> None:
    off = [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [1.0, 3.0, 5.0]]
    same = change(off, off, 0.5)
    assert same[2:] == (0.0, 0.0, 0.0)
    slower = change(off, [[1.1 * x for x in block] for block in off], 0.99)
    assert slower[2:] == pytest.approx((0.1, 0.1, 0.1))


def test_a_short_turn_gives_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(shadow, "COMPARED", 10)
    monkeypatch.setattr(shadow, "PAUSE_S", 0.2)
    monkeypatch.setattr(shadow, "PROMPT_WORDS", (1, 2))
    monkeypatch.setattr(shadow, "TOKENS", (8, 12))
    write_tiny_artifacts(tmp_path / "artifacts", decode=(4,))
    page = tmp_path / "shadow.md"
    words = ["--blocks=1", "--seconds=1", "--rate=20", "--share=1", "--threads=1"]
    assert shadow.main([str(tmp_path / "artifacts"), *words, f"--page={page}"]) == 0
    text = page.read_text()
    for row in "| time to first token | p99 |", "| whole request | p50 |", "| advantage |":
        assert row in text
    assert "nan" not in text
