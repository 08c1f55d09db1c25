"""Servers in processes of their own."""

import subprocess
import time

import httpx

READY_WITHIN_S = 300.0


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
