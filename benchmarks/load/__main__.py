"""`python -m benchmarks.load`: both text models under the same load, into a page of today.

Starts a server on a free port, warms up every shape of request, offers streams of each model at
rising rates, models in turns, then all kinds of requests together, and stops the server for two
seconds under an open and a closed loop. Refuses to report when the client did not keep its times.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.load import charts, pause
from benchmarks.load.drive import Driven, locust
from benchmarks.load.figures import Cell, Objective, cells, knee, quantiles, values
from benchmarks.load.page import Report
from benchmarks.report import provenance
from loadtest.samples import Sample
from loadtest.workload import MAX_TOKENS
from luminanet.artifact.files import replacing
from luminanet.errors import LuminaNetError
from serving.measure.servers import served

HERE = Path(__file__).parent
PACKAGES = ("locust", "onnxruntime", "numpy", "tokenizers", "uvicorn")
USERS = 400
"""More than a server holds (--max-batch + --queue-limit): the pool is not what ends first."""

GIVE_UP_S = 1.5
"""A median latency so far beyond the knee that higher rates are left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(given)
    try:
        folder = measure(options, shlex.join(["python", "-m", "benchmarks.load", *given]))
    except LuminaNetError as error:
        print(f"error: no report: {error}", file=sys.stderr)
        return 2
    print(f"{folder}/README.md")
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    found.add_argument("artifacts", nargs="?", type=Path, default=Path("pretrained"))
    found.add_argument("--rates", default="5,10,20,40,80", help="requests/s, one step each")
    found.add_argument("--seconds", type=float, default=3.0, help="length of a step")
    found.add_argument("--repeats", type=int, default=2)
    found.add_argument("--mixed-rate", type=float, default=10.0, help="all shapes, requests/s")
    found.add_argument("--ttft", type=float, default=0.2, help="objective: s to the first token")
    found.add_argument("--tpot", type=float, default=0.02, help="objective: s per further token")
    found.add_argument("--max-lag", type=float, default=0.25, help="s a request may be sent late")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--out", type=Path, default=HERE, help="where the folder of today is made")
    return found


def measure(options: argparse.Namespace, command: str) -> Path:
    """The folder with the page. Raises LuminaNetError when there is nothing to report."""
    begin_s, busy = time.monotonic(), os.getloadavg()[0]
    objective = Objective(options.ttft, options.tpot)
    with served(["--artifacts", str(options.artifacts)], os.environ) as server:
        driven = locust(server.url, server.pid, sweep_options(options))
        shown = pause.show(server, options.seed)
    steps = driven.recording.steps
    single = [number for number, step in enumerate(steps) if len(step.shapes) == 1]
    found = cells(driven, single)
    today = datetime.now(UTC).date().isoformat()
    took = f"{time.monotonic() - begin_s:.0f} s"
    report = Report(
        date=today,
        provenance=provenance(command, PACKAGES, f"{options.seed}; {took}"),
        objective=objective,
        cells=found,
        shapes=by_shape(driven, set(range(len(steps))) - set(single)),
        mixed_rate=options.mixed_rate,
        pause=shown,
        curves_rate=common_knee(found, objective),
        max_lag_s=options.max_lag,
        give_up_s=GIVE_UP_S,
        load_average=busy,
        max_tokens=MAX_TOKENS,
    )
    folder = Path(options.out) / today
    write(report, folder)
    return folder


def sweep_options(options: argparse.Namespace) -> list[str]:
    """What locust is asked for."""
    pairs = {
        "-u": USERS,
        "-r": USERS,
        "--rates": options.rates,
        "--step-seconds": options.seconds,
        "--repeats": options.repeats,
        "--mixed-rate": options.mixed_rate,
        "--max-lag": options.max_lag,
        "--give-up": GIVE_UP_S,
        "--seed": options.seed,
    }
    return [word for name, value in pairs.items() for word in (name, str(value))]


def by_shape(driven: Driven, numbers: set[int]) -> dict[str, Sequence[Sample]]:
    """The samples of these steps."""
    found: dict[str, list[Sample]] = {}
    for sample in driven.recording.samples:
        if sample.step in numbers:
            found.setdefault(sample.shape, []).append(sample)
    return dict(found)


def common_knee(found: Sequence[Cell], objective: Objective) -> float:
    """The highest rate that all models kept, or the lowest there is: where curves are compared."""
    models = {cell.model for cell in found}
    knees = [knee([cell for cell in found if cell.model == name], objective) for name in models]
    rates = [rate for rate in knees if rate is not None]
    return min(rates) if len(rates) == len(models) else min(cell.rate for cell in found)


def write(report: Report, folder: Path) -> None:
    """The page, its charts, and its figures for programs. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    charts.save(charts.curves(report.cells, report.curves_rate, report.objective), folder, "curves")
    charts.save(charts.sweep(report.cells, report.objective), folder, "sweep")
    with replacing(folder / "figures.json") as file:
        file.write(json.dumps(figures(report), indent=1).encode() + b"\n")
    with replacing(folder / "README.md") as file:
        file.write(report.page().encode())


def figures(report: Report) -> dict[str, object]:
    """Seconds, by rate and model."""
    return {
        "provenance": report.provenance.strip(),
        "objective": str(report.objective),
        "cells": [
            {
                "model": cell.model,
                "rate": cell.rate,
                "requests": len(cell.samples),
                "failed": cell.failed,
                "within": cell.share(report.objective),
                "tokens_per_second": cell.tokens_per_second,
                "server_cores": cell.server_cores,
                "server_peak_bytes": cell.server_peak_bytes,
                "client_cores": cell.client_cores,
                "seconds": {
                    name: quantiles(values(cell.samples, name))
                    for name in ("TTFT", "inter-token", "TPOT", "end to end")
                },
            }
            for cell in report.cells
        ],
    }


if __name__ == "__main__":
    raise SystemExit(main())
