"""How a run is watched and stopped: signals, and TensorBoard."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from luminanet.artifact.files import named
from luminanet.errors import MissingExtraError


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives SIGINT or SIGTERM; a second one ends the process at once."""
    received: list[int] = []
    old: dict[signal.Signals, Any] = {}

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, old[signal.Signals(number)])

    for number in (signal.SIGINT, signal.SIGTERM):
        old[number] = signal.signal(number, remember)
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class NoBoard:
    """Takes the place of TensorBoard's writer where nothing is written."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        pass


@contextmanager
def board(out: Path, wanted: bool) -> Iterator[Any]:
    """TensorBoard's writer. Raises OSError when its files cannot be written."""
    if not wanted:
        yield NoBoard()
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train") from error
    folder = out / "tensorboard"
    with _quiet_threads():
        try:
            writer = SummaryWriter(str(folder))
            try:
                yield writer
            finally:
                writer.close()
        except OSError as error:
            if error.filename:
                raise
            raise named(error, folder) from error


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """The writer's thread prints the trace of an OSError, which its caller raises too."""
    plain = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if not isinstance(found.exc_value, OSError):
            plain(found)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = plain
