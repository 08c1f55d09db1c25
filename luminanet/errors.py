"""One tree of errors, and how a command ends. Every message says what is wrong, where, and how to
mend it.

LuminaNetError
├── TopologyError        a network that cannot exist (or a mutation that would make one)
├── ConfigError          an option or preset that makes no sense
├── DataError            a data set that is missing or has another layout
├── CheckpointError      a ckpt.pt that cannot be read or resumed
├── ArtifactError        a frozen artifact that is missing, damaged or not to be trusted
├── ExportError          a graph that could not be built
│   └── VerificationError    a graph that disagrees with the numpy reference
├── DivergedError        a network that is no network any more: its loss is no number
├── DeviceError          a GPU, or its driver, that does not do what it is asked
└── MissingExtraError    an optional library is not installed

A command ends (`finish`) with an exit status, and at most one line on stderr:

0      it is done
2      what a user can mend, told in one line
130    Ctrl-C; 143 SIGTERM; 141 the reader of its output went away. Nothing half is left
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType


class LuminaNetError(Exception):
    """Base of all errors a user can cause and mend."""


class TopologyError(LuminaNetError):
    """A network that cannot exist."""


class ConfigError(LuminaNetError):
    """An option or preset that makes no sense."""


class DataError(LuminaNetError):
    """A data set that is missing or has another layout."""


class CheckpointError(LuminaNetError):
    """A checkpoint that cannot be read or resumed."""


class ArtifactError(LuminaNetError):
    """A frozen artifact that is missing, damaged or not to be trusted."""


class ExportError(LuminaNetError):
    """A graph that could not be built."""


class VerificationError(ExportError):
    """A graph that disagrees with the numpy reference."""


class DivergedError(LuminaNetError):
    """Training that led to weights, or to a loss, that are no numbers."""


class DeviceError(LuminaNetError):
    """A GPU, or its driver, that does not do what it is asked."""


class MissingExtraError(LuminaNetError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'luminanet[{extra}]'")


def told(error: OSError, otherwise: Path | None = None) -> str:
    """What the operating system says, in one line: "runs/a/ckpt.pt: No space left on device"."""
    where, why = error.filename or otherwise, error.strerror or str(error)
    return f"{where}: {why}" if where else why


# ---------------------------------------------------------------------- how a command ends

ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Ended(KeyboardInterrupt):
    """A signal asked for the end; not an Exception, so that nobody takes it for a fault."""

    def __init__(self, number: int, said: str = "") -> None:
        name = signal.Signals(number).name
        super().__init__(said or f"ended by {name}: nothing half is left")
        self.number = number


def finish(work: Callable[[], int | None], system: Callable[[OSError], str] = told) -> int:
    """Does the work and returns the exit status: the one that it returns, or 0. `system` puts what
    the operating system refuses in words."""
    try:
        with _signals():
            if isinstance(sys.stdout, TextIOWrapper):  # a path of any bytes can be printed
                sys.stdout.reconfigure(errors="backslashreplace")
            status = work()
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 128 + signal.SIGPIPE
    except (LuminaNetError, OSError) as error:
        _discard_output()
        said = system(error) if isinstance(error, OSError) else str(error)
        print(f"error: {clean(said)}", file=sys.stderr)
        return 2
    except Ended as ended:
        print(ended, file=sys.stderr)
        return 128 + ended.number
    return status or 0


def clean(text: str) -> str:
    """Text on one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


@contextmanager
def _signals() -> Iterator[None]:
    """Signals of ENDING raise Ended in here, unless somebody else has asked for them."""

    def end(number: int, _: FrameType | None) -> None:
        raise Ended(number)

    is_main = threading.current_thread() is threading.main_thread()
    usual = (signal.SIG_DFL, signal.default_int_handler)
    mine = [number for number in ENDING if is_main and signal.getsignal(number) in usual]
    before = {number: signal.signal(number, end) for number in mine}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard_output() -> None:
    """What cannot be written any more is not tried again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
