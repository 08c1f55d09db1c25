"""Data sets -> arrays, from Parquet files in the Hugging Face layout.

`uoft-cs/cifar10` (columns img, label) and `roneneldan/TinyStories` (column text) come from a
local folder, or by name from the hub. Images are loaded whole; stories come in batches, so that
corpus.py can tokenize any number of them. Shape legend: N examples, C channels, Y rows, X columns.
"""

import io
import os
from collections.abc import Iterator, Sequence
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
STORIES_AT_ONCE = 1000
READ_BYTES = 1 << 20
"""What is read of a file at once, however large its row groups are."""
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
    """A token stream, every story followed by the end token; `bytes` of UTF-8 text in it.

    The ids are integers of any size, in memory or in a file that is mapped into it.
    """

    ids_N: NDArray[Any]
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
    return [story for stories in read(story_files(folder, split)) for story in stories]


def story_files(folder: Path | None, split: str) -> list[Path]:
    """The Parquet files of TinyStories, in order; raises DataError when there are none."""
    return _files(DataSet.TINYSTORIES, folder, split)


def count(files: Sequence[Path]) -> int:
    """How many stories the files hold. Raises DataError as `read` does."""
    return sum(_stories(path).metadata.num_rows for path in files)


def read(files: Sequence[Path]) -> Iterator[list[str]]:
    """All stories in order, some at a time. Raises DataError for files of another layout."""
    for path in files:
        try:
            for batch in _stories(path).iter_batches(STORIES_AT_ONCE, columns=["text"]):
                yield [str(text) for text in batch["text"].to_pylist()]
        except (pyarrow.ArrowException, OSError) as error:
            raise _odd(path, ("text",), error) from error


def _stories(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise _odd(path, ("text",), error) from error
    if "text" not in file.schema_arrow.names:
        raise _odd(path, ("text",), f"it has {file.schema_arrow.names}")
    return file


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
    files = _files(data_set, folder, split)
    try:
        return pyarrow.concat_tables([pq.read_table(f, columns=list(columns)) for f in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise _odd(files[0], columns, error) from error


def _odd(path: Path, columns: tuple[str, ...], why: object) -> DataError:
    return DataError(f"{path} is not a Parquet file with {columns}: {why}")


def _files(data_set: DataSet, folder: Path | None, split: str) -> list[Path]:
    where = _download(data_set, split) if folder is None else folder
    inner = where / data_set.value
    where = inner if inner.is_dir() else where
    files = sorted(where.rglob(f"{split}*.parquet"))
    if not files:
        raise DataError(
            f"no {split}*.parquet of {data_set.value} under {where}: put the Parquet files of "
            f"{REPOSITORIES[data_set]} there, or leave out --data and {ENVIRONMENT} to fetch it"
        )
    return files


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
