"""How a command ends: with an exit status, and at most one line on stderr.

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
from types import FrameType

from luminanet.errors import LuminaNetError, told

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
