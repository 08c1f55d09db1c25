"""How good text models are and what they cost, side by side, in one run.

    python -m benchmarks.text runs/gpt2 runs/tinystories/ckpt.pt pretrained/gpt2/artifact

A model is a ckpt.pt or a folder with one, a frozen artifact, or a GPT-2 directory of Hugging Face.
Checkpoints are evaluated through torch and frozen in memory to be timed; artifacts run through
onnxruntime. Everything runs on one thread; models take turns, so that a busy moment slows all of
them, and times are medians of the thread's CPU time. Each runs in its best form: what the exporter
chooses for the batch, in float32 and in int8. Ratios are to the first GPT-2 given.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.report import provenance
from benchmarks.text.costs import milliseconds
from benchmarks.text.entries import Entry, entry, report
from benchmarks.text.models import open_model
from benchmarks.text.streams import SPLITS, VALIDATION, Streams
from luminanet.errors import LuminaNetError
from training.data.datasets import resolve
from training.train import command_of

PACKAGES = ("onnxruntime", "torch", "numpy", "tokenizers")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.text",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument(
        "--split",
        choices=SPLITS,
        default=VALIDATION,
        help="held-out, for choices: a share of the training stories that was never trained on "
        "(default: validation)",
    )
    p.add_argument("--limit", type=int, help="tokens of the split to take, from its beginning")
    p.add_argument(
        "--latency", action=argparse.BooleanOptionalAction, default=True, help="whether to time"
    )
    p.add_argument("--rounds", type=int, default=15, help="turns of each model (default 15)")
    p.add_argument("--out", type=Path, help="JSON file with everything")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    torch.set_num_threads(1)
    try:
        models = [open_model(path) for path in arguments.models]
        streams = Streams(resolve(arguments.data), arguments.split, arguments.limit)
        entries = [entry(model, streams) for model in models]
        if arguments.latency:
            found = milliseconds(models, rounds=arguments.rounds)
            entries = [own.timed(ms) for own, ms in zip(entries, found, strict=True)]
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    source = provenance(command_of(words, "benchmarks.text"), PACKAGES, "0 (one)")
    print(f"{report(entries)}\n{source}", end="")
    if arguments.out:
        write(arguments.out, entries, arguments.split, source)
    return 0


def write(path: Path, entries: Sequence[Entry], split: str, source: str) -> None:
    body = {
        "source": source.strip(),
        "split": split,
        "models": [own.to_dict() for own in entries],
    }
    path.write_text(json.dumps(body, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
