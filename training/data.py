"""Data sets -> arrays, from Parquet files in the Hugging Face layout.

`uoft-cs/cifar10` (columns img, label) and `roneneldan/TinyStories` (column text) come from a
local folder, or by name from the hub. Shape legend: N examples, C channels, Y rows, X columns.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from luminanet.errors import DataError, MissingExtraError
from luminanet.tokenizer import Tokenizer
from training.config import DataSet

ENVIRONMENT = "LUMINANET_DATA"
REPOSITORIES = {
    DataSet.CIFAR10: "uoft-cs/cifar10",
    DataSet.TINYSTORIES: "roneneldan/TinyStories",
}
LABELS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled RGB images, pixels_NCYX in 0..255."""

    pixels_NCYX: NDArray[np.uint8]
    labels_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels_N)

    def part(self, rows: NDArray[np.int64]) -> "Images":
        return Images(self.pixels_NCYX[rows], self.labels_N[rows])


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token stream, every story followed by the end token; `bytes` of UTF-8 text in it."""

    ids_N: NDArray[np.int64]
    bytes: int

    def __len__(self) -> int:
        return len(self.ids_N)


def load_images(folder: Path | None, split: str) -> Images:
    """CIFAR-10, split `train` or `test`. Raises DataError when it is missing or odd."""
    table = _table(DataSet.CIFAR10, folder, split, ("img", "label"))
    pixels = [_decode(cell) for cell in table["img"].to_pylist()]
    labels = np.asarray(table["label"].to_pylist(), np.int64)
    if labels.min() < 0 or labels.max() >= len(LABELS):
        raise DataError(f"cifar10 {split}: labels must lie in 0..{len(LABELS) - 1}")
    return Images(np.stack(pixels).transpose(0, 3, 1, 2).copy(), labels)


def load_stories(folder: Path | None, split: str) -> list[str]:
    """TinyStories, split `train` or `validation`. Raises DataError when missing or odd."""
    table = _table(DataSet.TINYSTORIES, folder, split, ("text",))
    return [str(text) for text in table["text"].to_pylist()]


def tokenize(stories: Sequence[str], tokenizer: Tokenizer) -> Tokens:
    ids = [np.asarray([*e, tokenizer.end_id]) for e in tokenizer.encode_batch(stories)]
    return Tokens(np.concatenate(ids), sum(len(story.encode()) for story in stories))


def resolve(data: str | None) -> Path | None:
    """The folder given by the option, else by LUMINANET_DATA; None means the hub."""
    chosen = data or os.environ.get(ENVIRONMENT)
    if not chosen:
        return None
    folder = Path(chosen)
    if not folder.is_dir():
        raise DataError(f"the data folder {folder} is not there: check --data or {ENVIRONMENT}")
    return folder


def _decode(cell: dict[str, Any]) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(cell["bytes"])) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (32, 32, 3):
        raise DataError(f"an image is {pixels.shape}, expected 32x32 RGB")
    return pixels


def _table(
    data_set: DataSet, folder: Path | None, split: str, columns: tuple[str, ...]
) -> pyarrow.Table:
    where = _download(data_set, split) if folder is None else folder
    inner = where / data_set.value
    where = inner if inner.is_dir() else where
    files = sorted(where.rglob(f"{split}*.parquet"))
    if not files:
        raise DataError(
            f"no {split}*.parquet of {data_set.value} under {where}: put the Parquet files of "
            f"{REPOSITORIES[data_set]} there, or leave out --data and {ENVIRONMENT} to fetch it"
        )
    try:
        return pyarrow.concat_tables([pq.read_table(f, columns=list(columns)) for f in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{files[0]} is not a Parquet file with {columns}: {error}") from error


def _download(data_set: DataSet, split: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "train") from error
    repository = REPOSITORIES[data_set]
    try:
        found = snapshot_download(
            repository, repo_type="dataset", allow_patterns=[f"*{split}*.parquet"]
        )
    except Exception as error:  # the library raises many kinds when it is offline
        raise DataError(
            f"{repository} could not be fetched from the hub ({type(error).__name__}): "
            f"give a folder of its Parquet files with --data or {ENVIRONMENT}"
        ) from error
    return Path(found)
