"""What the benchmarks that train have in common: options, budgets, and how they end."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from luminanet.artifact.files import replacing
from luminanet.errors import ConfigError, finish
from training.config import RunConfig
from training.run.run import as_begun, saved_in

HERE = Path(__file__).parent
Config = TypeVar("Config", bound=RunConfig)
ENDLESS = 10**9
"""Steps of a run that only its time limits."""


def parser(name: str, description: str | None, seeds: str) -> argparse.ArgumentParser:
    """Options of `python -m benchmarks.<name>`; `seeds` is the default."""
    p = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    p.add_argument("--seeds", default=seeds, help=f"with commas between (default {seeds})")
    p.add_argument("--seconds", type=float, help="training time of each run instead of steps")
    p.add_argument("--steps", type=int, help="instead of the preset's")
    p.add_argument("--batch", type=int, help="instead of the preset's")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument("--out", type=Path, default=Path("runs") / name, help="folder of the runs")
    p.add_argument("--report", type=Path, default=HERE, help=f"folder of {name}.md and .json")
    p.add_argument("--threads", type=int, help="CPU threads of torch")
    return p


def seeds_of(arguments: argparse.Namespace) -> list[int]:
    return numbers(arguments.seeds, "--seeds")


def numbers(listed: str, option: str) -> list[int]:
    """Of an option, each once and rising. Raises ConfigError for what is no list of numbers."""
    try:
        return sorted({int(word) for word in listed.split(",")})
    except ValueError as error:
        raise ConfigError(f"{option}: {listed!r} is not a list like 0,1,2") from error


def budgeted(config: Config, arguments: argparse.Namespace) -> Config:
    """The configuration with the steps, time and batch that the options give."""
    if arguments.seconds is not None and arguments.seconds <= 0:
        raise ConfigError("--seconds must be more than 0")
    steps = arguments.steps or (ENDLESS if arguments.seconds else None)
    given = {"batch": arguments.batch, "seconds": arguments.seconds, "steps": steps}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def going_on(config: Config, out: Path) -> Config:
    """The configuration of a run in `out` that may have begun before, to prepare its data by."""
    return as_begun(config, saved_in(out))


def stored(path: Path, config: RunConfig) -> dict[str, Any] | None:
    """The result that `store` left there; raises ConfigError when it is of another run."""
    if not path.exists():
        return None
    raw = json.loads(path.read_text("utf-8"))
    if config.differing(raw["config"]):
        raise ConfigError(f"{path} is of a run with other settings: choose another --out")
    result: dict[str, Any] = raw["result"]
    return result


def store(path: Path, config: RunConfig, result: dict[str, Any]) -> None:
    """Writes a finished run's result under a temporary name and renames it into place."""
    body = {"config": config.to_dict(), "result": result}
    with replacing(path) as file:
        file.write((json.dumps(body, indent=2) + "\n").encode())


def finished(work: Callable[[], str]) -> int:
    """Does the work and prints what it returns; the exit status, with one line for an error."""
    return finish(lambda: print(work()))
