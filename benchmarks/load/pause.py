"""What a closed loop hides: the same server stops for two seconds under an open and a closed loop.

`python -m benchmarks.load.pause` prints the p99 of both. In the closed loop one request meets the
pause, that of its one user, and the others are never sent; in the open one all those do that users
would have sent meanwhile.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.drive import locust
from benchmarks.load.figures import quantiles
from benchmarks.report import table
from loadtest.samples import Sample
from luminanet.errors import LuminaNetError
from serving.measure.servers import Server, served

PAUSE_S = 2.0
RATE = 12.0
SECONDS = 6.0
MAX_LAG_S = 0.5
OPEN_USERS = 100
CLOSED_REQUESTS = 400
CLOSED_AFTER_S = "0.1"
"""Less than that many requests take on any machine."""
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


def show(server: Server, seed: int = 0) -> Shown:
    """Runs both loops against a server, each with one pause. Raises NoReportError."""
    options = ["--seed", str(seed), "--stop-pid", str(server.pid), "--stop-for", str(PAUSE_S)]
    paced = ["--shapes", SHAPE, "--rates", str(RATE), "--step-seconds", str(SECONDS)]
    paced += ["-u", str(OPEN_USERS), "-r", str(OPEN_USERS), "--max-lag", str(MAX_LAG_S)]
    users = ["LuminaNet", "--tags", SHAPE.split()[1], "-u", "1", "--requests", str(CLOSED_REQUESTS)]
    try:
        opened = locust(server.url, server.pid, [*options, *paced])
        closed = locust(server.url, server.pid, [*users, *options, "--stop-after", CLOSED_AFTER_S])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    return Shown(opened.recording.samples, closed.recording.samples)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="?", type=Path, default=Path("pretrained"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        with served(["--artifacts", str(given.artifacts)], os.environ) as server:
            print(show(server, given.seed).table(), end="")
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
