"""What a closed loop hides: the same server stops for two seconds under an open and a closed loop.

`python -m benchmarks.load.pause` prints the p99 of both. In the closed loop as many requests as
there are users meet the pause, and the others are never sent; in the open one all those do that
users would have sent meanwhile.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.drive import locust
from benchmarks.load.figures import quantiles
from benchmarks.load.server import Server
from benchmarks.report import table
from loadtest.samples import Sample
from luminanet.errors import LuminaNetError

PAUSE_S = 2.0
RATE = 12.0
SECONDS = 8.0
CLOSED_USERS = 2
OPEN_USERS = 100
SHAPE = "luminanet classify"
"""Short requests: a closed loop sends hundreds beside the few that meet the pause."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The samples of both loops."""

    open: Sequence[Sample]
    closed: Sequence[Sample]

    def table(self) -> str:
        rows = [
            ("open", "done - intended", _times([s.latency_s for s in self.open]), len(self.open)),
            ("closed", "done - sent", _times([s.service_s for s in self.closed]), len(self.closed)),
        ]
        header = ["loop", "latency", "p50", "p90", "p99", "p99.9", "requests", "over 1 s"]
        late = [sum(s.latency_s > 1 for s in samples) for samples in (self.open, self.closed)]
        return table(
            header,
            [
                [loop, kind, *times, str(count), str(over)]
                for (loop, kind, times, count), over in zip(rows, late, strict=True)
            ],
        )


def _times(found: Sequence[float]) -> list[str]:
    return [f"{value * 1e3:.1f} ms" for value in quantiles(found)]


def stop_and_continue(pid: int, after_s: float, pause_s: float = PAUSE_S) -> None:
    """Stops a process for a while. It goes on whatever happens here."""
    time.sleep(after_s)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(pause_s)
    finally:
        os.kill(pid, signal.SIGCONT)


def show(server: Server, seed: int = 0) -> Shown:
    """Runs both loops against a server, each with one pause. Raises NoReportError."""

    def pause() -> None:
        stop_and_continue(server.pid, SECONDS / 2)

    options = ["--seed", str(seed), "--shapes", SHAPE, "--max-lag", "0.5"]
    paced = ["-u", str(OPEN_USERS), "-r", str(OPEN_USERS), "--rates", str(RATE)]
    paced += ["--step-seconds", str(SECONDS)]
    opened = locust(server.url, server.pid, [*options, *paced], pause)
    users = ["LuminaNet", "--tags", SHAPE.split()[1], "--stop-timeout", "10"]
    users += ["-u", str(CLOSED_USERS), "-r", str(CLOSED_USERS), "-t", f"{SECONDS:g}s"]
    closed = locust(server.url, server.pid, [*options, *users], pause)
    return Shown(opened.recording.samples, closed.recording.samples)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="?", type=Path, default=Path("pretrained"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        with Server(given.artifacts) as server:
            print(show(server, given.seed).table(), end="")
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
