"""The command tells what it can train."""

import pytest

from training.presets import PRESETS
from training.train import main


def test_the_command_lists_every_preset_on_a_line_with_a_few_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--list"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert all(len(line) <= 80 and len(line.split()) > 1 for line in lines)


def test_without_the_list_a_preset_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "--preset" in capsys.readouterr().err
