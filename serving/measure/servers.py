"""`python -m serving` as a process of its own, for those who measure it from outside."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Event, Thread

from luminanet.errors import DataError

READY = "ready on "
READY_WITHIN_S = 300
END_S = 60


class Server:
    """A process that serves, or will. What it says is read as it comes, so that it never waits for
    a reader."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process
        self._said: deque[str] = deque(maxlen=20)
        self._found = ""
        self._settled = Event()
        self._reader = Thread(target=self._listen, name="server", daemon=True)
        self._reader.start()

    @cached_property
    def url(self) -> str:
        """Where it answers, as soon as it is ready. Raises DataError, with its last words, when it
        ends before or is not ready in time."""
        self._settled.wait(READY_WITHIN_S)
        if not self._found:
            last = self._said[-1].strip() if self._said else ""
            raise DataError(f"a server did not start: {last.removeprefix('error: ')}")
        return self._found

    def end(self) -> None:
        """Drains it, and kills it when that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _listen(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._said.append(line)
            if READY in line:
                self._found = line.split(READY)[1].strip()
                self._settled.set()
        self._settled.set()


@contextmanager
def served(
    flags: Sequence[str],
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "serving"),
) -> Iterator[Server]:
    """A server on a free port of the loopback, ended with the block. It has these settings and no
    others, unless an `environment` is given."""
    if environment is None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LUMINANET_")}
    command = [sys.executable, *program, "--host=127.0.0.1", "--port=0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        server = Server(process)
        try:
            yield server
        finally:
            server.end()
