"""How a run is watched and stopped: signals, and TensorBoard."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

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
    if not wanted:
        yield NoBoard()
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train") from error
    writer = SummaryWriter(str(out / "tensorboard"))
    try:
        yield writer
    finally:
        writer.close()
