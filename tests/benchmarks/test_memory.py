"""The page of memory is made of the file, and of nothing else."""

from pathlib import Path

import pytest

from benchmarks import memory
from tests.serving.metrics.test_memory import FOUND


def test_the_page_has_medians_and_spreads(tmp_path: Path) -> None:
    file, page = tmp_path / "memory.json", tmp_path / "memory.md"
    file.write_text(FOUND.to_json())
    assert memory.main(["--read", str(file), "--page", str(page)]) == 0
    text = page.read_text()
    assert "| luminanet-tinystories | 256 |" in text
    assert "0.1 KiB (0.1 to 0.1)" in text
    assert "GPU" not in text
    assert "`command`, 3 runs each, on 2 cores of a CPU; numpy 2; seed 0; 2026-01-02." in text


def test_a_file_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert memory.main(["--read", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
