"""A server in a process of its own, on a free port of the loopback interface."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx

READY_WITHIN_S = 300.0


class Server:
    """`python -m serving` on `artifacts`, ready inside the `with` block, ended after it."""

    def __init__(self, artifacts: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "serving", "--port", str(port)]
        self.command += ["--artifacts", str(artifacts)]

    def __enter__(self) -> "Server":
        self.process = subprocess.Popen(self.command)
        wait_until_ready(self.url, self.process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Raises RuntimeError, and ends the process, when it does not get ready."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    process.kill()
    raise RuntimeError("the server did not get ready")
