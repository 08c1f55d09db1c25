"""Finished runs as a file of JSON, a line each, so that what it knows is not run again; and the
options of the commands that keep one."""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from luminanet.artifact.files import replacing


def read(path: Path, name: str) -> list[dict[str, Any]]:
    """What `write` left there under this name; nothing when there is no file."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))[name]
    return rows


def write(path: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Under a temporary name first, so that an end in between loses nothing."""
    lines = ",\n".join(map(json.dumps, rows))
    with replacing(path) as file:
        file.write(f'{{"{name}": [\n{lines}\n]}}\n'.encode())


def parser(
    command: str, description: str | None, out: Path, report: Path, files: str
) -> argparse.ArgumentParser:
    """Options of `python -m COMMAND`, whose runs go to `out` and whose `files` to `report`."""
    p = argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--most", type=int, metavar="N", help="do no more than N runs, then the page")
    p.add_argument("--out", type=Path, default=out, help="folder of the runs")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    p.add_argument("--report", type=Path, default=report, help=f"folder of {files}")
    return p
