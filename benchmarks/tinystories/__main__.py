"""LuminaNet's frontier of quality and cost against GPT-2's.

    python -m benchmarks.tinystories --luminanet runs/a runs/b --gpt2 runs/gpt2-128 runs/gpt2-256
    python -m benchmarks.tinystories --runs runs/frontier

Evaluates every model as benchmarks.text does, once: what results.json knows of a checkpoint by its
hash is not evaluated again. Times all models in one run. Writes README.md, results.json and
frontier.svg into benchmarks/tinystories, or into --report. `--split held-out` is for choosing
models, into a folder of its own; the validation split is for the figures that are shown.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.report import provenance
from benchmarks.text.__main__ import PACKAGES, write
from benchmarks.text.costs import DECODE, STEP, milliseconds
from benchmarks.text.entries import Entry, entry, hashed, report
from benchmarks.text.models import CHECKPOINT, TextModel, open_model
from benchmarks.text.streams import SPLITS, VALIDATION, Streams
from benchmarks.tinystories.frontier import compared, pairs, summary
from benchmarks.tinystories.plots import draw
from luminanet.artifact.manifest import Family
from luminanet.errors import CheckpointError, ConfigError, LuminaNetError
from training.data.datasets import resolve
from training.train import command_of

HERE = Path(__file__).parent
README, RESULTS, PLOT = "README.md", "results.json", "frontier.svg"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.tinystories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--luminanet", type=Path, nargs="+", default=[], metavar="MODEL")
    p.add_argument("--gpt2", type=Path, nargs="+", default=[], metavar="MODEL")
    p.add_argument("--runs", type=Path, help=f"folder: every {CHECKPOINT} of a text model in it")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument("--split", choices=SPLITS, default=VALIDATION)
    p.add_argument("--limit", type=int, help="tokens of the split to take, from its beginning")
    p.add_argument(
        "--latency",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="time all models; without, times of the last run are kept if it had all of them",
    )
    p.add_argument("--rounds", type=int, default=15, help="turns of each model (default 15)")
    p.add_argument("--report", type=Path, default=HERE, help=f"folder of {README} and the rest")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    torch.set_num_threads(1)
    try:
        models = gather(arguments)
        streams = Streams(resolve(arguments.data), arguments.split, arguments.limit)
        source = provenance(command_of(words, "benchmarks.tinystories"), PACKAGES, "0 (one)")
        arguments.report.mkdir(parents=True, exist_ok=True)
        results = arguments.report / RESULTS
        entries = evaluated(models, streams, results, source)
        if arguments.latency:
            found = milliseconds(models, rounds=arguments.rounds)
            entries = [own.timed(ms) for own, ms in zip(entries, found, strict=True)]
        elif not all(own.ms for own in entries):
            entries = [replace(own, ms={}) for own in entries]
        write(results, entries, arguments.split, source)
        draw(entries, arguments.report / PLOT)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = page(entries, arguments.split)
    (arguments.report / README).write_text(f"{text}\n{source}", "utf-8")
    print(text)
    return 0


def gather(arguments: argparse.Namespace) -> list[TextModel]:
    """LuminaNets, then GPT-2s. Raises ConfigError when a model is not of the family it is given
    for, or when there is none."""
    found = []
    for family, paths in ((Family.LUMINANET, arguments.luminanet), (Family.GPT2, arguments.gpt2)):
        for path in paths:
            model = open_model(path)
            if model.family is not family:
                raise ConfigError(f"{path} is a {model.family}, not a {family}: move it")
            found.append(model)
    for path in sorted(arguments.runs.rglob(CHECKPOINT)) if arguments.runs else []:
        try:
            within = path.parent.relative_to(arguments.runs)
            found.append(replace(open_model(path), name=str(within)))
        except CheckpointError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not found:
        raise ConfigError("there is no model: give some with --luminanet, --gpt2 or --runs")
    return sorted(found, key=lambda model: (model.family is Family.GPT2, model.name))


def evaluated(
    models: Sequence[TextModel], streams: Streams, results: Path, source: str
) -> list[Entry]:
    """An entry a model, each written to `results` as soon as it is known, or taken from there."""
    known = {(e.digest, e.stream): e for e in stored(results)}
    found = list[Entry]()
    for model in models:
        own = known.pop((model.digest, hashed(streams.of(model.tokenizer))), None)
        if own is None:
            found.append(entry(model, streams))
            write(results, [*found, *known.values()], streams.split, source)
        else:
            found.append(replace(own, name=model.name))
    return found


def stored(results: Path) -> list[Entry]:
    """What an earlier run left; nothing when it was of another version of this command."""
    try:
        return [Entry.from_dict(raw) for raw in json.loads(results.read_text("utf-8"))["models"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def page(entries: Sequence[Entry], split: str) -> str:
    """The report: pairs and marks, the plot, every figure, and how each model was made."""
    found = pairs(
        [e for e in entries if e.family is Family.LUMINANET],
        [e for e in entries if e.family is Family.GPT2],
    )
    made = "".join(f"* {e.name}: `{e.command or 'unknown'}`\n" for e in entries)
    parts = [
        "# TinyStories: the frontier of quality and cost\n",
        f"Split: {split}. One thread of onnxruntime; all models take turns; times are medians of "
        "the thread's CPU time. Each LuminaNet is compared with the GPT-2, cached and in its best "
        "form, that is nearest in bits per byte among those as good or better; a ratio is "
        "LuminaNet's part of it, bold where its mark is met.\n",
        f"![bits per byte against cost]({PLOT})\n",
        "## Pairs\n",
        f"{compared(found, STEP)}\n{summary(found)}" if found else "There are not both families.\n",
    ]
    if any(key.startswith(DECODE) for e in entries for key in e.ms):
        parts += ["With the sampler in the graph (greedy, one token a call):\n"]
        parts += [compared(found, DECODE)]
    parts += ["## All models\n", report(entries), "## How they were made\n", made]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
