import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree

import pytest

from export.build_engine import main as build_engine
from export.freeze import main as freeze
from export.show import main as show
from export.triton_repository import main as triton_repository
from luminanet.artifact.directory import Artifact
from luminanet.errors import ConfigError, finish
from tests.nets import LABELS, random_weights, tiny_image_topology, write_tiny_artifacts
from training.checkpoint import Checkpoint, save

ROOT = Path(__file__).parents[2]
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A hang-up is heard, also where the tests were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("no such form"), "no such form"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
        (ConfigError("a\x1b[1m\nb is no\udcff folder"), r"a\x1b[1m\x0ab is no\xdcff folder"),
    ],
)
def test_what_can_be_mended_is_one_plain_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(raising(error)) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_what_nobody_can_mend_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        finish(raising(ZeroDivisionError()))


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_the_work_and_its_handler_goes_with_it(
    number: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before, cleared = signal.getsignal(number), []

    def work() -> None:
        try:
            signal.raise_signal(number)
            raise AssertionError("the signal was not heard")
        finally:
            cleared.append(True)

    assert finish(work) == status
    told = capsys.readouterr().err
    assert told == f"ended by {signal.Signals(number).name}: nothing half is left\n"
    assert cleared
    assert signal.getsignal(number) is before


def test_a_signal_that_somebody_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert finish(lambda: signal.raise_signal(signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_that_may_not_hear_signals_works_all_the_same() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(finish(lambda: None)))
    thread.start()
    thread.join()
    assert found == [0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "ckpt.pt"
    save(path, Checkpoint("image", random_weights(tiny_image_topology()), labels=LABELS))
    return path


@pytest.fixture(scope="module")
def frozen(checkpoint: Path) -> Path:
    out = checkpoint.parent / "artifact"
    assert freeze([str(checkpoint), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("moment", ["pack", "_report", "put"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_freeze_that_is_ended_leaves_no_half_artifact(
    is_there: bool,
    moment: str,
    number: int,
    status: int,
    checkpoint: Path,
    frozen: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the middle of the work, between the renames of the folders, and after all of it."""
    out = tmp_path / "out"
    if is_there:
        copytree(frozen, out)
    before = out.stat().st_ino if is_there else None

    def ending(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    def renaming(self: Path, target: Path) -> None:
        os.rename(self, target)  # noqa: PTH104
        if self.name == "out" or not is_there:
            ending()

    if moment == "put":
        monkeypatch.setattr(Path, "rename", renaming)
    else:
        monkeypatch.setattr(f"export.freeze.{moment}", ending)
    assert freeze([str(checkpoint), "--out", str(out)]) == status
    told = capsys.readouterr().err
    assert told == f"ended by {signal.Signals(number).name}: nothing half is left\n"
    monkeypatch.undo()
    is_new = moment == "_report" or (moment == "put" and not is_there)
    assert {path.name for path in tmp_path.iterdir()} == ({"out"} if is_there or is_new else set())
    if is_there or is_new:
        artifact = Artifact.open(out)
        assert all(artifact.read(name) for name in artifact.manifest.files or {})
        assert (out.stat().st_ino == before) == (not is_new)


def test_a_process_that_is_ended_while_it_freezes_has_the_status_of_its_signal(
    checkpoint: Path, tmp_path: Path
) -> None:
    code = f"""
import os, signal, sys
from export import freeze
freeze.pack = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
sys.exit(freeze.main([{str(checkpoint)!r}, "--out", {str(tmp_path / "out")!r}]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (143, "ended by SIGTERM: nothing half is left\n")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    write_tiny_artifacts(root)
    return root / "luminanet-cifar10" / "artifact"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), signal.SIGINT])
@pytest.mark.parametrize("command", [show, build_engine, triton_repository, freeze])
def test_every_command_ends_with_one_line(
    command: Callable[[list[str]], int],
    error: OSError | int,
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(*_: object, **__: object) -> bytes:
        if isinstance(error, OSError):
            raise error
        signal.raise_signal(error)
        return b""

    monkeypatch.setattr(Path, "is_file", failing)
    words = [str(tmp_path / "models")] if command is triton_repository else []
    assert command([str(artifact), *words]) == (2 if isinstance(error, OSError) else 130)
    assert capsys.readouterr().err.count("\n") == 1


def run(command: str, artifact: Path, stdout: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", f"export.{command}", str(artifact)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        words, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120
    )


def test_a_reader_that_went_away_is_no_fault(artifact: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("show", artifact, writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_finds_no_room_is_one_line(artifact: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("show", artifact, full.fileno())
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"


def test_a_path_of_any_bytes_can_be_told(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9-\xff")
    words = ["export/freeze.py", str(checkpoint), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"caf\udce9-\udcff" in done.stdout
    assert Artifact.open(out)
