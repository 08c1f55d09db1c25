"""`python -m benchmarks.memory [ARTIFACTS]`: what each model takes of memory, as a table.

Runs `python -m serving.measure` with the same options, which writes the file that a server tells,
and writes benchmarks/memory.md; or makes the page of a file that is there (--read FILE).
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import table
from luminanet.errors import ConfigError, LuminaNetError
from serving.measure.__main__ import options, run
from serving.metrics.memory import Kind, Measurement, ModelMemory, Runs, read

PAGE = Path(__file__).parent / "memory.md"
KINDS: dict[Kind, str] = {
    "uss": "USS",
    "peak_uss": "peak USS",
    "peak_rss": "peak RSS",
    "gpu": "GPU",
}
MIB = 2**20


def report(found: Measurement) -> str:
    """The tables: what a model consists of, and servers under load."""
    return (
        "What a model takes: the weights in its graphs, what creating the sessions adds (USS), and "
        "what one sequence more adds to a server (slope of USS from the fewest to the most).\n\n"
        f"{_parts(found.models)}\n"
        "A server with this model alone, the median of runs (least to most). USS is the median "
        "while clients are answered, its peak that since the start of the process.\n\n"
        f"{_loads(found.models)}\n"
        f"{_note(found)}"
    )


def _parts(models: Sequence[ModelMemory]) -> str:
    rows = [
        [
            model.name,
            f"{model.weights_bytes / MIB:.1f} MiB",
            _spread(model.session_bytes, MIB, "MiB"),
            _spread(model.state_bytes, 1024, "KiB") if model.state_bytes else "",
        ]
        for model in models
    ]
    return table(["model", "weights", "sessions", "one sequence more"], rows)


def _loads(models: Sequence[ModelMemory]) -> str:
    shown = [kind for kind in KINDS if any(kind in k for m in models for k in m.load.values())]
    rows = [
        [
            model.name,
            str(sequences),
            *(_spread(kinds[kind], MIB, "MiB") if kind in kinds else "" for kind in shown),
        ]
        for model in models
        for sequences, kinds in model.load.items()
    ]
    return table(["model", "at once", *(KINDS[kind] for kind in shown)], rows)


def _spread(runs: Runs, unit: int, name: str) -> str:
    least, middle, most = (f(runs) / unit for f in (min, statistics.median, max))
    return f"{middle:.1f} {name} ({least:.1f} to {most:.1f})"


def _note(found: Measurement) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    runs = len(found.models[0].session_bytes) if found.models else 0
    day = found.date.partition("T")[0]
    return (
        f"`{found.command}`, {runs} runs each, on {found.machine}; {versions}; seed {found.seed}; "
        f"{day}.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    options(parser)
    parser.add_argument("--read", type=Path, help="makes the page of this file, measures nothing")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes")
    given = parser.parse_args(argv)
    try:
        found = _read(given.read) if given.read else run(given, "python -m benchmarks.memory")
        page = report(found)
        print(page)
        given.page.write_text(f"# Memory\n\n{page}", "utf-8")
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _read(path: Path) -> Measurement:
    try:
        return read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}: name another --read") from error


if __name__ == "__main__":
    sys.exit(main())
