"""`python -m serving.measure [ARTIFACTS]`: what each model takes of memory, into a file that a
server tells under /metrics (LUMINANET_MEMORY_FILE).

Each model is served in a process of its own and asked by 1, 32 and 256 clients at once, the same
requests for every model of a task. Measured are USS, its peak and that of RSS, GPU memory where
there is some, and apart what creating the sessions adds. Needs Linux; takes some minutes.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from luminanet import machine
from luminanet.artifact.files import replacing
from luminanet.artifact.manifest import Served
from luminanet.errors import ConfigError, LuminaNetError
from serving.measure.measurement import Plan, measure
from serving.metrics.memory import Measurement
from serving.models.load import find
from serving.settings import available_cpus, beside

PACKAGES = ("onnxruntime", "numpy", "fastapi", "uvicorn")


def measured(artifacts: Path, plan: Plan, command: str) -> Measurement:
    """All artifacts of a folder. Raises ArtifactError, DataError or ConfigError."""
    models = [measure(directory, plan, _say) for directory in find(artifacts)]
    return Measurement(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.line(),
        versions={name: version(name) for name in PACKAGES},
        seed=plan.seed,
        command=command,
        models=models,
    )


def write(found: Measurement, path: Path) -> None:
    """The whole file or none. Raises ConfigError when it cannot be written."""
    try:
        path.parent.stat()  # a folder that is not there is a slip
        with replacing(path) as file:
            file.write(found.to_json().encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}: name another --out"
        ) from error


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--runs", type=_positive, default=3, help="of each load (default 3)")
    parser.add_argument(
        "--sequences", type=_several, default=(1, 32, 256), help="clients at once (1,32,256)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="per model; 0: as many as CPUs")
    parser.add_argument("--precision", choices=get_args(Served), default="fp32")
    parser.add_argument("--steps", type=_positive, default=4, help="tokens a call (default 4)")
    parser.add_argument("--out", type=Path, help="default: memory.json beside ARTIFACTS")


def run(given: argparse.Namespace, command: str) -> Measurement:
    """What the options ask for, measured and written."""
    plan = Plan(
        tuple(sorted(given.sequences)),
        given.runs,
        given.seed,
        given.threads or available_cpus(),
        given.precision,
        given.steps,
    )
    found = measured(given.artifacts, plan, command)
    write(found, given.out or beside(given.artifacts))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.measure", description=__doc__)
    options(parser)
    given = parser.parse_args(argv)
    try:
        run(given, "python -m serving.measure")
        print(given.out or beside(given.artifacts))
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _positive(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} is below 1")
    return number


def _several(words: str) -> tuple[int, ...]:
    return tuple(map(_positive, words.split(",")))


if __name__ == "__main__":
    sys.exit(main())
