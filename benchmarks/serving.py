"""`python -m benchmarks.serving [ARTIFACTS]`: where the time of a request goes in the server.

wrk sends one picture over and over (a form to /classify), then asks for streamed texts (/generate),
of a server with clocks in it (stages.py). Each stage is told by CPU of its thread and by wall; what
no stage has is the event loop itself, and waiting for the interpreter's lock. The same load without
clocks says what they cost. Writes benchmarks/serving.md.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers.__main__ import picture_of
from benchmarks.peers.contenders import form
from benchmarks.peers.wrk import Driven, drive, version
from benchmarks.report import provenance, table
from benchmarks.stages import STAGES
from loadtest.workload import Call
from luminanet.errors import DataError, LuminaNetError
from serving.measure.servers import Server, served

PAGE = Path(__file__).parent / "serving.md"
SIDE, TOKENS = 32, 64
WARM_S = 1.0
TOLD_WITHIN_S = 10.0

Stages = Mapping[str, Sequence[float]]
"""Of each: calls, seconds of CPU, seconds of wall."""


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk saw, seconds of CPU that the process took for it, and what each stage took."""

    driven: Driven
    cpu_s: float
    stages: Stages


@dataclass(frozen=True, slots=True)
class Profile:
    """The same load with clocks and without."""

    clocked: Run
    plain: Run


def loads(seed: int) -> dict[str, Call]:
    body = {
        "prompt": "Once upon a time",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "seed": seed,
        "stream": True,
    }
    text = Call("/generate", json.dumps(body).encode(), "application/json")
    return {"/classify": form("file")(picture_of(SIDE, seed)), "/generate, streamed": text}


def measure(given: argparse.Namespace) -> dict[str, Profile]:
    """Raises LuminaNetError."""
    version()
    flags = ["--artifacts", str(given.artifacts)]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stages.json"
        clocked = ("-m", "benchmarks.stages", str(file))
        with served(flags) as plain, served(flags, program=clocked) as server:
            for name, call in loads(given.seed).items():
                found[name] = Profile(
                    _driven(server, call, given, file), _driven(plain, call, given)
                )
                print(f"{name}: {found[name].clocked.driven}", file=sys.stderr)
    return found


def _driven(server: Server, call: Call, given: argparse.Namespace, file: Path | None = None) -> Run:
    """`file`: where a server with clocks tells what they show."""
    drive(server.url, call, given.connections, WARM_S)
    stages, cpu_s = told(server, file) if file else {}, _cpu_s(server)
    driven = drive(server.url, call, given.connections, given.seconds)
    cpu_s = _cpu_s(server) - cpu_s
    if not driven.requests:
        raise DataError(f"no answer came within {given.seconds:g} s: give it more --seconds")
    return Run(driven, cpu_s, difference(told(server, file), stages) if file else {})


def _cpu_s(server: Server) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def told(server: Server, file: Path) -> Stages:
    """What the stages took so far. Raises DataError."""
    file.unlink(missing_ok=True)
    os.kill(server.pid, signal.SIGUSR1)
    end_s = time.monotonic() + TOLD_WITHIN_S
    while not file.exists():
        if time.monotonic() > end_s:
            raise DataError("the server does not tell its stages")
        time.sleep(0.05)
    stages: Stages = json.loads(file.read_text("utf-8"))
    return stages


def difference(after: Stages, before: Stages) -> Stages:
    nothing = (0, 0.0, 0.0)
    return {
        name: [
            a - b for a, b in zip(after.get(name, nothing), before.get(name, nothing), strict=True)
        ]
        for name in STAGES
    }


# ---------------------------------------------------------------------- the page


def page(profiles: Mapping[str, Profile], given: argparse.Namespace) -> str:
    return (
        f"wrk, {given.connections} connections, {given.seconds:g} s each: one PNG of {SIDE}x{SIDE} "
        f"pixels in a form; texts of {TOKENS} tokens. CPU and wall of each stage are without the "
        "stages within it, per request, by clocks of the thread in the running server; threads "
        "overlap, so wall does not add up to latency. What is under no clock is the event loop "
        "(select, tasks), the other threads of the runtime and the interpreter's lock. Load and "
        "server share the machine.\n\n" + "\n".join(_section(*one) for one in profiles.items())
    )


def _section(name: str, found: Profile) -> str:
    run, plain = found.clocked, found.plain
    each = 1e6 / run.driven.requests
    rest_s = run.cpu_s - sum(cpu_s for _, cpu_s, _ in run.stages.values())
    rows = [
        [
            stage,
            f"{calls / run.driven.requests:.2f}",
            f"{each * cpu_s:.0f}",
            f"{each * wall_s:.0f}",
            f"{cpu_s / run.cpu_s:.0%}",
        ]
        for stage, (calls, cpu_s, wall_s) in run.stages.items()
        if calls
    ]
    rows.append(["under no clock", "", f"{each * rest_s:.0f}", "", f"{rest_s / run.cpu_s:.0%}"])
    header = ["stage", "calls", "CPU, us", "wall, us", "share of CPU"]
    return (
        f"## {name}\n\n{table(header, rows)}\n"
        f"Together {each * run.cpu_s:.0f} us of CPU a request at {run.driven.rate:.0f} requests/s; "
        f"without clocks {1e6 * plain.cpu_s / plain.driven.requests:.0f} us at "
        f"{plain.driven.rate:.0f} requests/s.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes")
    given = parser.parse_args(argv)
    try:
        text = page(measure(given), given)
        note = provenance(
            f"python -m benchmarks.serving --seconds {given.seconds:g}",
            ("onnxruntime", "uvicorn", "h11", "fastapi", "pillow"),
            str(given.seed),
        )
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    given.page.write_text(f"# Where a request's time goes\n\n{text}\n{version()}. {note}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
