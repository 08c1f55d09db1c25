"""A server in a process of its own, on a free port of the loopback interface."""

import re
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO

from luminanet.errors import LuminaNetError

READY = re.compile(r"ready on (http://\S+)")
READY_WITHIN_S = 300.0
ENDS_WITHIN_S = 60.0


class ServerError(LuminaNetError):
    """The server did not start."""


class Server:
    """`python -m serving` on `artifacts`: ready inside the `with` block, drained after it.

    Raises ServerError with what the server said last.
    """

    def __init__(self, artifacts: Path, options: tuple[str, ...] = ()) -> None:
        self.command = [sys.executable, "-m", "serving", "--port", "0"]
        self.command += ["--artifacts", str(artifacts), *options]
        self.url = ""
        self._said: deque[str] = deque(maxlen=20)
        self._settled = threading.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Server":
        self._process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        self._reader = threading.Thread(target=self._listen, args=(self._process.stderr,))
        self._reader.start()
        self._settled.wait(READY_WITHIN_S)
        if not self.url:
            self._end()
            raise ServerError(f"the server did not get ready: {''.join(self._said).strip()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            self._said.append(line)
            found = READY.search(line)
            if found:
                self.url = found[1]
                self._settled.set()
        self._settled.set()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()
