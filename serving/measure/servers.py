"""`python -m serving` as a process of its own, for those who measure it from outside."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from luminanet.errors import DataError

READY = "ready on "
END_S = 60

Server = subprocess.Popen[str]


@contextmanager
def served(flags: Sequence[str]) -> Iterator[Server]:
    """A server on a free port of the loopback, with these settings and no others; it is ended with
    the block."""
    command = [sys.executable, "-m", "serving", "--host=127.0.0.1", "--port=0", *flags]
    kept = {name: v for name, v in os.environ.items() if not name.startswith("LUMINANET_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=kept) as server:
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                server.kill()


def address(server: Server) -> str:
    """Its URL, as soon as it is ready. Raises DataError, with its last words, when it ends."""
    assert server.stderr
    last = ""
    for line in server.stderr:
        if READY in line:
            return line.split(READY)[1].strip()
        last = line.strip()
    raise DataError(f"a server did not start: {last.removeprefix('error: ')}")
