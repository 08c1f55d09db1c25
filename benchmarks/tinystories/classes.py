"""Which tokens does each text model predict well? `python -m benchmarks.tinystories.classes A B`.

The loss of two models with one tokenizer, with a full context, over classes of tokens: where the
same token stood last, how frequent it is in training, what it is in a sentence, and how far into
its story. Writes classes.md and classes.svg. A class's part of the gap is its share of the tokens
times the difference of its losses, so that the parts of one division sum to the whole gap.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import runs
from benchmarks.report import provenance, table
from benchmarks.text.models import TextModel, open_model
from benchmarks.text.quality import HALF, judged
from benchmarks.text.streams import HELD_OUT, SPLITS, TRAINING, Streams
from benchmarks.text.token_classes import Labels, distances, frequencies, kinds
from benchmarks.tinystories.plots import picture
from luminanet.artifact.files import replacing
from luminanet.errors import ConfigError
from luminanet.tokenizer import Tokenizer
from training.data.datasets import resolve
from training.train import command_of

HERE = Path(__file__).parent
PAGE, PLOT, FIGURES = "classes.md", "classes.svg", "classes.json"
PACKAGES = ("torch", "numpy", "tokenizers")
COLOURS = ("#c2410c", "#1d4ed8")
STORY = (0, 32, 64, 128, 256)
"""Where the classes by position in the story begin."""


@dataclass(frozen=True, slots=True)
class Part:
    """A class of tokens: its division and name, its share of all, its loss in nats in each model,
    and the standard error of the difference."""

    division: str
    name: str
    share: float
    losses: tuple[float, float]
    error: float

    @property
    def gap(self) -> float:
        """What it adds to the whole loss of the first model minus that of the other."""
        return self.share * (self.losses[0] - self.losses[1])


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.tinystories.classes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("models", type=Path, nargs=2, metavar="MODEL")
    p.add_argument("--data", help="folder of Parquet files; default as in training")
    p.add_argument("--split", choices=SPLITS, default=HELD_OUT)
    p.add_argument("--limit", type=int, help="tokens of the split to take, from its beginning")
    p.add_argument("--report", type=Path, default=HERE, help=f"folder of {PAGE} and the rest")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    torch.set_num_threads(1)
    return runs.finished(lambda: work(arguments, words))


def work(arguments: argparse.Namespace, words: Sequence[str]) -> str:
    """Returns the page. Raises ConfigError for two models of different tokenizers."""
    models = [open_model(path) for path in arguments.models]
    first, second = models
    if first.tokenizer != second.tokenizer:
        raise ConfigError(
            f"{first.name} and {second.name} have different tokenizers: their tokens do not compare"
        )
    data = resolve(arguments.data)
    ids_N = Streams(data, arguments.split, arguments.limit).of(first.tokenizer)
    counts_V = training_counts(data, first.tokenizer)
    found = parts(models, ids_N, counts_V)
    source = provenance(
        command_of(list(words), "benchmarks.tinystories.classes"), PACKAGES, "0 (one)"
    )
    names = (first.name, second.name)
    text = f"{page(found, names, arguments.split)}\n{source}"
    body = {"models": names, "split": arguments.split, "parts": [asdict(p) for p in found]}
    contents = {PAGE: text, FIGURES: f"{json.dumps(body, indent=1)}\n"}
    for name, content in contents.items():
        with replacing(arguments.report / name) as file:
            file.write(content.encode())
    draw(found, names, arguments.report / PLOT)
    return text


def training_counts(folder: Path | None, tokenizer: str) -> NDArray[np.int64]:
    """How often each token stands in the training stories, [V]."""
    ids_N = Streams(folder, TRAINING).of(tokenizer)
    return np.bincount(ids_N, minlength=Tokenizer.from_json(tokenizer).vocab_size)


# ---------------------------------------------------------------------- figures


def parts(
    models: Sequence[TextModel], ids_N: NDArray[Any], counts_V: NDArray[np.int64]
) -> list[Part]:
    """All classes of all divisions, over tokens with more than half a block before them."""
    scored = [judged(model, ids_N) for model in models]
    tokens_KU = scored[0][2]
    nats = [nats_KT[:, HALF:].ravel() for nats_KT, _, _ in scored]
    found = list[Part]()
    for division, (labels_KT, names) in divisions(tokens_KU, models[0].tokenizer, counts_V).items():
        labels = labels_KT[:, HALF:].ravel()
        for number, name in enumerate(names):
            own = labels == number
            if own.any():
                losses = tuple(float(n[own].mean()) for n in nats)
                apart = nats[0][own] - nats[1][own]
                error = float(apart.std() / np.sqrt(own.sum()))
                found.append(Part(division, name, float(own.mean()), (losses[0], losses[1]), error))
    return found


def divisions(
    tokens_KU: NDArray[Any], tokenizer: str, counts_V: NDArray[np.int64]
) -> Mapping[str, tuple[Labels, tuple[str, ...]]]:
    """Each a way to put every token into one class."""
    ending = Tokenizer.from_json(tokenizer).end_id
    return {
        "same token before": distances(tokens_KU),
        "frequency in training": frequencies(tokens_KU[:, 1:], counts_V),
        "in its sentence": kinds(tokens_KU, tokenizer),
        "in its story": in_story(tokens_KU, ending),
    }


def in_story(tokens_KU: NDArray[Any], ending: int) -> tuple[Labels, tuple[str, ...]]:
    """Of the last T tokens of each block: tokens since its story began within the block, [K, T]."""
    places_KU = np.broadcast_to(np.arange(tokens_KU.shape[1]), tokens_KU.shape)
    ends_KU = np.where(tokens_KU == ending, places_KU, -1)
    began_KT = np.maximum.accumulate(ends_KU, axis=1)[:, :-1]
    since_KT = np.where(began_KT >= 0, places_KU[:, 1:] - began_KT - 1, STORY[-1])
    names = [f"token {a} to {b - 1}" for a, b in pairwise(STORY)]
    labels_KT = np.searchsorted(STORY, since_KT, side="right") - 1
    return labels_KT, (*names, "began before the block")


# ---------------------------------------------------------------------- page and picture


def page(found: Sequence[Part], names: tuple[str, str], split: str) -> str:
    rows = [
        [
            *(p.division, p.name, f"{p.share:.1%}"),
            *(f"{loss:.3f}" for loss in p.losses),
            f"{p.losses[0] - p.losses[1]:+.3f} ± {p.error:.3f}",
            f"{p.gap:+.4f}",
        ]
        for p in found
    ]
    first = [p for p in found if p.division == found[0].division]
    total = sum(p.gap for p in first)
    header = ["division", "class", "share", *names, "difference", "part of the gap"]
    return (
        f"# Loss by class of token\n\nNats a token on the split {split}, with more than {HALF} "
        f"tokens before each. The first model's loss minus the second's is {total:+.4f} in all; a "
        "class's part is its share times its difference, with the standard error over tokens "
        f"beside it.\n\n![Loss by class of token of both models]({PLOT})\n\n{table(header, rows)}"
    )


def draw(found: Sequence[Part], names: tuple[str, str], path: Path) -> None:
    """Losses of both models by class, and each class's part of the gap. Same figures, same bytes.

    Raises MissingExtraError without matplotlib.
    """
    labels = [f"{p.name}  ({p.share:.0%})" for p in found]
    starts = [i for i, p in enumerate(found) if i and p.division != found[i - 1].division]
    at = np.arange(len(found)) + np.searchsorted(starts, np.arange(len(found)), side="right")
    with picture(path, (10, 7.5)) as canvas:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for side, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
            values = [p.losses[side] for p in found]
            left.barh(at + (side - 0.5) * 0.4, values, 0.4, color=colour, label=name)
        left.set_yticks(at, labels)
        left.invert_yaxis()
        left.set_xlabel("nats a token")
        canvas.legend(loc="outside upper center", ncols=2)
        gaps = [1000 * p.gap for p in found]
        colours = [COLOURS[1] if gap > 0 else COLOURS[0] for gap in gaps]
        right.barh(at, gaps, 0.7, color=colours)
        right.axvline(0, color="black", linewidth=0.8)
        right.set_xlabel(f"part of the gap, thousandths of a nat (left: {names[0]} is better)")
        for axes in (left, right):
            axes.grid(axis="x", alpha=0.2)


if __name__ == "__main__":
    sys.exit(main())
