"""How well is each side tuned? `python -m benchmarks.tinystories.tuning`.

Performs the runs that tries.py lists, each in a folder of its own under --runs, one after the
other, and writes tuning.json after each: what that knows is not run again, and an interrupted run
resumes. Then writes tuning.md (tuned.py): all tries of both sides, the best rate of each width and
the rule through them. Scores are on held-out stories; nothing here reads the validation split.
All runs share one tokenizer, the shipped one unless another is named, and one file of tokens.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

import torch

from benchmarks import ledger, runs
from benchmarks.report import made, provenance
from benchmarks.tinystories.tries import TRIES, Tried, Try
from benchmarks.tinystories.tuned import page
from luminanet.errors import ConfigError
from training.data.datasets import resolve
from training.run.run import Run
from training.run.task import prepare
from training.train import command_of

HERE = Path(__file__).parent
FIGURES, PAGE, TRIED = "tuning.json", "tuning.md", "tries"
TOKENIZER = Path("pretrained/gpt2-tinystories/artifact/tokenizer.json")
PACKAGES = ("torch", "numpy")
CPU = torch.device("cpu")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.tinystories.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--only", default="*", metavar="PATTERN", help="tries by name, such as gpt2-64-*"
    )
    p.add_argument("--most", type=int, metavar="N", help="do no more than N runs, then the page")
    p.add_argument("--runs", type=Path, default=Path("runs/tuning"), help="folder of the runs")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument("--tokenizer", type=Path, default=TOKENIZER, help=f"default {TOKENIZER}")
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
    """Does what is missing; returns the page. Raises ConfigError when no try has such a name."""
    wanted = [t for t in TRIES if fnmatch(t.name, arguments.only)]
    if not wanted:
        raise ConfigError(f"no try is named like {arguments.only!r}: give another --only")
    arguments.report.mkdir(parents=True, exist_ok=True)
    path = arguments.report / FIGURES
    known = [Tried.from_dict(raw) for raw in ledger.read(path, TRIED)]
    done = {tried.what for tried in known}
    for what in [t for t in wanted if t not in done][: arguments.most]:
        print(f"{what.name}: try {len(known) + 1}", file=sys.stderr)
        known.append(perform(what, arguments))
        ledger.write(path, TRIED, map(asdict, known))
    source = provenance(
        command_of(list(words), "benchmarks.tinystories.tuning"), PACKAGES, "0 unless named"
    )
    text = page(known)
    (arguments.report / PAGE).write_text(f"{text}\n{source}", "utf-8")
    return text


def perform(what: Try, arguments: argparse.Namespace) -> Tried:
    """Trains, or goes on with, one run. Raises Interrupted after SIGINT or SIGTERM."""
    config, out = what.config(), arguments.runs / what.name
    task = prepare(config, resolve(arguments.data), arguments.tokenizer, CPU, arguments.runs)
    run = Run(config, task, out, CPU, what.name)
    run.train()
    parameters = sum(p.numel() for p in run.trainer.model.parameters())
    seconds = round(run.trainer.seconds, 1)
    curve = tuple(run.checks)
    return Tried(what, run.score().loss, curve, parameters, seconds, made(PACKAGES))


if __name__ == "__main__":
    sys.exit(main())
