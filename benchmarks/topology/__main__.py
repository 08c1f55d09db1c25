"""What does a topology choose that matters at the end? `python -m benchmarks.topology --data DIR`.

Trains arms.py's topologies of equal cost for each of --steps and writes map.json after each run:
what that knows is not run again, and an interrupted run resumes. Then writes map.md and map.svg.
The reference has every seed of --seeds, all others the first; the held-out images are the same for
all, and the test set is not looked at.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch

from benchmarks import runs
from benchmarks.report import provenance
from benchmarks.topology.arms import REFERENCE, arms
from benchmarks.topology.map import draw, page
from benchmarks.topology.trained import PACKAGES, Trained, Wanted, missing, perform, to_dict
from luminanet.artifact.files import replacing
from luminanet.errors import ConfigError
from training.train import command_of

HERE = Path(__file__).parent
FIGURES, PAGE, PICTURE = "map.json", "map.md", "map.svg"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.topology",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--only", default="*", metavar="PATTERN", help="arms by name, such as 'scale*'")
    p.add_argument("--steps", default="1000,5000", help="lengths, with commas (1000,5000)")
    p.add_argument("--seeds", default="0,1,2", help="of the reference, with commas (0,1,2)")
    p.add_argument("--draws", type=int, default=3, help="by chance, for each choice (3)")
    p.add_argument("--most", type=int, metavar="N", help="do no more than N runs, then the page")
    p.add_argument("--out", type=Path, default=Path("runs/topology"), help="folder of the runs")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    p.add_argument("--report", type=Path, default=HERE, help=f"folder of {PAGE} and {FIGURES}")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    torch.set_num_threads(arguments.threads)
    return runs.finished(lambda: work(arguments, words))


def work(arguments: argparse.Namespace, words: Sequence[str]) -> str:
    """Does what is missing; returns the page. Raises ConfigError when no arm has such a name."""
    chosen = wanted(arguments)
    arguments.report.mkdir(parents=True, exist_ok=True)
    path = arguments.report / FIGURES
    known = read(path)
    for run in missing(chosen, known)[: arguments.most]:
        print(f"{run.folder}: run {len(known) + 1}", file=sys.stderr)
        known = [*read(path), perform(run, arguments)]
        write(path, known)
    command = command_of(list(words), "benchmarks.topology")
    text = page(known)
    draw(known, arguments.report / PICTURE)
    source = provenance(command, PACKAGES, arguments.seeds)
    (arguments.report / PAGE).write_text(f"{text}\n{source}", "utf-8")
    return text


def wanted(arguments: argparse.Namespace) -> list[Wanted]:
    """The runs that the options ask for: shorter ones first, by hand before by chance."""
    found = [arm for arm in arms(arguments.draws) if fnmatch(arm.name, arguments.only)]
    if not found:
        raise ConfigError(f"no arm is named like {arguments.only!r}: give another --only")
    lengths = sorted(runs.numbers(arguments.steps, "--steps"))
    seeds = runs.numbers(arguments.seeds, "--seeds")
    return [
        Wanted(arm, seed, steps)
        for steps in lengths
        for arm in found
        for seed in (seeds if arm.name == REFERENCE else seeds[:1])
    ]


def read(path: Path) -> list[Trained]:
    if not path.exists():
        return []
    return [Trained.from_dict(raw) for raw in json.loads(path.read_text("utf-8"))["runs"]]


def write(path: Path, known: Sequence[Trained]) -> None:
    """Under a temporary name first, so that an end in between loses nothing."""
    lines = ",\n".join(json.dumps(to_dict(trained)) for trained in known)
    with replacing(path) as file:
        file.write(f'{{"runs": [\n{lines}\n]}}\n'.encode())


if __name__ == "__main__":
    sys.exit(main())
