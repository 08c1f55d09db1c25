"""Locust in a process of its own -> a recording, or the reason why there is none."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load.watch import Usage, Watch
from loadtest.samples import Recording, read
from luminanet.errors import LuminaNetError

ROOT = Path(__file__).parent.parent.parent
LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
LONGEST_S = 900.0
CLIENT_NICE = -10


class NoReportError(LuminaNetError):
    """A run that did not keep its schedule, or did not end well."""


@dataclass(frozen=True, slots=True)
class Driven:
    recording: Recording
    usage: Mapping[str, Usage]
    """`server` and `client`, and what they took."""


def locust(url: str, server: int, options: Sequence[str]) -> Driven:
    """Runs locust without a web page against `url`, watching it and the process `server`. Classes
    of users come first in `options`. Raises NoReportError."""
    with tempfile.TemporaryDirectory() as folder:
        samples, said = Path(folder) / "samples.json", Path(folder) / "said"
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
        command += [*options, "--host", url, "--only-summary", "--loglevel", "ERROR"]
        command += ["--samples", str(samples)]
        paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with said.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                cwd=ROOT,
                env=environment,
            )
            _put_first(process.pid)
        try:
            with Watch({"server": server, "client": process.pid}) as watch:
                process.wait(LONGEST_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            reason = _reason(said.read_text("utf-8", errors="replace"))
            raise NoReportError(f"locust ended with {process.returncode}: {reason}")
        return Driven(read(samples), watch.usage)


def _put_first(pid: int) -> None:
    """The client goes before others on a busy machine, where that is allowed: it must be on time,
    and takes little."""
    with suppress(psutil.Error, OSError):
        psutil.Process(pid).nice(CLIENT_NICE)


def _reason(said: str) -> str:
    """The line in which locust says why it does not report, or its last ones."""
    lines = said.strip().splitlines()
    refused = [line for line in lines if "no report: " in line]
    return refused[0].split("no report: ")[1] if refused else " ".join(lines[-3:])
