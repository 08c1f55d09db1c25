"""What does a topology choose that matters at the end? `python -m benchmarks.topology --data DIR`.

Trains arms.py's topologies of equal cost for each of --steps and writes map.json after each run:
what that knows is not run again, and an interrupted run resumes. Then writes map.md and map.svg.
The reference has every seed of --seeds, all others the first; the held-out images are the same for
all, and the test set is not looked at.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

import torch

from benchmarks import ledger, runs
from benchmarks.report import provenance
from benchmarks.topology.arms import REFERENCE, arms
from benchmarks.topology.map import draw, page
from benchmarks.topology.trained import PACKAGES, Trained, Wanted, missing, perform
from luminanet.errors import ConfigError
from training.train import command_of

HERE = Path(__file__).parent
FIGURES, PAGE, PICTURE = "map.json", "map.md", "map.svg"
RUNS = "runs"


def parser() -> argparse.ArgumentParser:
    out = Path("runs/topology")
    p = ledger.parser("benchmarks.topology", __doc__, out, HERE, f"{PAGE} and {FIGURES}")
    p.add_argument("--only", default="*", metavar="PATTERN", help="arms by name, such as 'scale*'")
    p.add_argument("--steps", default="1000,5000", help="lengths, with commas (1000,5000)")
    p.add_argument("--seeds", default="0,1,2", help="of the reference, with commas (0,1,2)")
    p.add_argument("--draws", type=int, default=3, help="by chance, for each choice (3)")
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
    known = [Trained.from_dict(raw) for raw in ledger.read(path, RUNS)]
    for run in missing(chosen, known)[: arguments.most]:
        print(f"{run.folder}: run {len(known) + 1}", file=sys.stderr)
        known.append(perform(run, arguments))
        ledger.write(path, RUNS, map(asdict, known))
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


if __name__ == "__main__":
    sys.exit(main())
