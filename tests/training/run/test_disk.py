"""What the operating system refuses is one line and exit status 2, and nothing half is left."""

import errno
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.nets import random_net
from training.analysis.__main__ import main as analyse
from training.checkpoint import Checkpoint, save
from training.run.watch import board
from training.torch_files import write_torch
from training.train import main

if sys.platform == "win32":
    pytest.skip("the limits of a process are those of Unix", allow_module_level=True)

from tests.limits import as_anyone, room_for

IMAGES = ["--preset", "lenet5", "--steps", "4", "--batch", "16", "--threads", "1"]
EVOLVING = ["--preset", "cifar10", "--steps", "30", "--batch", "16", "--threads", "1"]
EVOLVING += ["--width", "8", "--channel", "4", "--evolution-events", "4"]
TEXT = ["--preset", "gpt2", "--steps", "4", "--batch", "4", "--context", "16", "--threads", "1"]
TEXT += ["--vocab-size", "300", "--width", "32"]
PROGRESS = re.compile(r"\[\d\d:\d\d|^resuming ")


def refused(words: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a run ends with."""
    capsys.readouterr()
    assert main([*words, "--data", str(data), "--out", str(out)]) == 2
    printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
    lines = [line for line in printed if line.strip() and not PROGRESS.search(line)]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("size", [20, 3_000, 100_000])
def test_a_run_that_finds_no_room_for_its_state_leaves_none(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    with room_for(size):
        said = refused(IMAGES, data, tmp_path / "run", capsys)
    assert "File too large" in said
    assert "make room there, or choose another --out" in said
    assert [path.name for path in (tmp_path / "run").iterdir()] in (["tensorboard"], [])
    assert main([*IMAGES, "--data", str(data), "--out", str(tmp_path / "run")]) == 0


def test_a_run_without_room_for_its_checkpoint_keeps_its_state(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    assert main([*IMAGES, "--data", str(data), "--out", str(out)]) == 0
    made, state = (out / "ckpt.pt").read_bytes(), (out / "state.pt").read_bytes()
    (out / "ckpt.pt").unlink()

    def narrow(path: Path, body: Mapping[str, Any]) -> None:
        with room_for(len(made) // 2):
            write_torch(path, body)

    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoint.write_torch", narrow)
        assert "ckpt.pt: File too large" in refused(IMAGES, data, out, capsys)
    assert (out / "state.pt").read_bytes() == state
    assert not (out / "ckpt.pt").exists()
    assert main([*IMAGES, "--data", str(data), "--out", str(out)]) == 0
    assert (out / "ckpt.pt").read_bytes() == made


def test_no_room_for_the_log_of_the_evolution(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with room_for(4000):
        said = refused(EVOLVING, data, tmp_path / "run", capsys)
    assert "evolution.jsonl: File too large" in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["tensorboard"]


def test_no_room_for_the_tokens(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with room_for(1000):
        said = refused(TEXT, data, tmp_path / "run", capsys)
    assert said.endswith("run cannot hold the tokens: File too large")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".tokens.bin.lock"]


def test_a_board_that_cannot_be_written_is_an_error_of_its_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its files are written by a thread, which ends and prints a trace unless it is quieted."""

    def write() -> None:
        with board(tmp_path, True) as writer, room_for(200):
            for step in range(10):
                writer.add_scalar("loss", 1.0, step)
                writer.flush()

    with pytest.raises(OSError, match="File too large") as caught:
        write()
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "tensorboard")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("words", [IMAGES, EVOLVING, TEXT])
def test_an_out_below_a_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "file").write_text("x")
    said = refused(words, data, tmp_path / "file" / "run", capsys)
    assert "file/run" in said
    assert "Not a directory" in said


@pytest.mark.parametrize("words", [IMAGES, TEXT])
def test_an_out_that_may_not_be_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with as_anyone():
        said = refused(words, data, tmp_path / "closed" / "run", capsys)
    assert "closed/run" in said
    assert "Permission denied" in said


@pytest.mark.parametrize("words", [IMAGES, TEXT])
@pytest.mark.parametrize("closed", [".", "*", "*/train.parquet"])
def test_data_that_may_not_be_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], closed: str
) -> None:
    copied = Path(shutil.copytree(data, tmp_path / "copied"))
    paths = list(copied.glob(closed)) if closed != "." else [copied]
    assert paths
    for path in paths:
        path.chmod(0)
    try:
        with as_anyone():
            said = refused(words, copied, tmp_path / "run", capsys)
    finally:
        for path in paths:
            path.chmod(0o755)
    assert "cannot be read: Permission denied" in said


def test_a_folder_that_is_closed_beside_the_data_is_told_and_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(data, tmp_path / "copied"))
    (copied / "cifar10" / "lost+found").mkdir(mode=0)
    with as_anyone():
        assert main([*IMAGES, "--data", str(copied), "--out", str(tmp_path / "run")]) == 0
    assert "lost+found is left out: Permission denied" in capsys.readouterr().err


def test_a_tokenizer_or_a_state_that_may_not_be_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*IMAGES, "--data", str(data), "--out", str(out)]) == 0
    (out / "state.pt").chmod(0)
    with as_anyone():
        assert "state.pt cannot be read: Permission" in refused(IMAGES, data, out, capsys)
        words = [*TEXT, "--tokenizer", str(out / "state.pt")]
        assert "state.pt cannot be read: Permission" in refused(words, data, out, capsys)


def test_an_analysis_whose_page_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ckpt.pt"
    save(path, Checkpoint("n", random_net(0, text=False)))
    (tmp_path / "file").write_text("x")
    assert analyse([str(path), "--html", str(tmp_path / "file" / "page.html")]) == 2
    assert "name another with --html" in capsys.readouterr().err
    with room_for(1000):
        assert analyse([str(path)]) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'topology.html'}: File too large: name another" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "file"]
    path.chmod(0)
    with as_anyone():
        assert analyse([str(path)]) == 2
    assert "ckpt.pt cannot be read: Permission denied" in capsys.readouterr().err
