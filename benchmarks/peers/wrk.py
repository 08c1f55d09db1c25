"""wrk, so many connections that each send the same request again and again -> figures."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loadtest.workload import Call
from luminanet.errors import ConfigError, DataError

SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True, slots=True)
class Driven:
    """Of one round: requests that were answered, and how long 50 % and 99 % of them took at most;
    errors are answers other than 2xx and 3xx, and connections that failed."""

    requests: int
    seconds: float
    p50_s: float
    p99_s: float
    errors: int

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.errors) / self.seconds


def version() -> str:
    """Raises ConfigError when there is no wrk."""
    if not shutil.which("wrk"):
        raise ConfigError("there is no wrk: apt-get install wrk")
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    return " ".join(said.split()[:2])


def drive(url: str, call: Call, connections: int, seconds: float) -> Driven:
    """One thread, which takes little beside a server. Raises DataError."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(call.body)
        body.flush()
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "10s",
        ]
        done = subprocess.run(
            [*command, "-s", str(SCRIPT), url + call.path],
            env={**os.environ, "PEERS_BODY": body.name, "PEERS_KIND": call.content_type},
            capture_output=True,
            text=True,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise DataError(f"wrk says nothing: {done.stdout[-200:]}{done.stderr[-200:]}")
    return Driven(**json.loads(lines[-1]))
