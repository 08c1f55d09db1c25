"""Data sets -> arrays, from Parquet files in the Hugging Face layout.

`uoft-cs/cifar10` (columns img, label) and `roneneldan/TinyStories` (column text) come from a
local folder, or by name from the hub; so do others of the same layout. Images are loaded whole;
stories come in batches, so that corpus.py can tokenize any number of them. What a cell may hold is
told in cells.py. Shape legend: N examples, C channels, Y rows, X columns.
"""

import fnmatch
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import DataError, MissingExtraError
from luminanet.tokenizer import Tokenizer
from luminanet.untrusted import line
from training.config import DataSet
from training.data import cells
from training.data.tables import BY_NAME, IMAGE, LABEL, TEXT, Columns, batches, open_table, pick

ENVIRONMENT = "LUMINANET_DATA"
REPOSITORIES = {
    DataSet.CIFAR10: "uoft-cs/cifar10",
    DataSet.TINYSTORIES: "roneneldan/TinyStories",
}
STORIES_AT_ONCE = 1000
IMAGES_AT_ONCE = 1000
LABELS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled RGB images, pixels_NCYX in 0..255, and what their classes are called."""

    pixels_NCYX: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    names: tuple[str, ...] = LABELS

    def __len__(self) -> int:
        return len(self.labels_N)

    def part(self, rows: NDArray[np.int64]) -> "Images":
        return Images(self.pixels_NCYX[rows], self.labels_N[rows], self.names)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token stream, every story followed by the end token; `bytes` of UTF-8 text in it.

    The ids are integers of any size, in memory or in a file that is mapped into it.
    """

    ids_N: NDArray[Any]
    bytes: int

    def __len__(self) -> int:
        return len(self.ids_N)


def load_images(folder: Path | None, split: str, columns: Columns = BY_NAME) -> Images:
    """CIFAR-10 or another set of ten classes, split `train` or `test`. Raises DataError when it
    is missing, or when one picture or label is not what it should be."""
    files = _files(DataSet.CIFAR10, folder, split)
    parts = [_images(path, columns) for path in files]
    for path, part in zip(files, parts, strict=True):
        if part.names != parts[0].names:
            raise DataError(
                f"{path} calls its classes otherwise than {files[0]}: keep only one set there"
            )
    found = Images(
        np.concatenate([part.pixels_NCYX for part in parts]),
        np.concatenate([part.labels_N for part in parts]),
        parts[0].names,
    )
    if not len(found):
        raise DataError(f"there is no picture in {files[0]}: put the pictures' Parquet files there")
    return found


def _images(path: Path, columns: Columns) -> Images:
    file = open_table(path)
    image = pick(path, file, IMAGE, columns.image)
    label = pick(path, file, LABEL, columns.label)
    names = _class_names(path, file.schema_arrow.metadata or {}, label)
    pixels, labels = list[NDArray[np.uint8]](), list[int]()
    for first, (shown, named) in batches(path, file, [image, label], IMAGES_AT_ONCE):
        pixels += cells.pictures(path, image, first, shown)
        labels += cells.labels(path, label, first, named, len(LABELS))
    pixels_NYXC = np.asarray(pixels, np.uint8).reshape(len(pixels), *cells.SIZE, 3)
    return Images(pixels_NYXC.transpose(0, 3, 1, 2).copy(), np.asarray(labels, np.int64), names)


def _class_names(path: Path, metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """As the hub writes them beside the columns; CIFAR-10's where nothing is written."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return LABELS
    if not isinstance(names, list):
        return LABELS
    if len({str(name) for name in names}) != len(LABELS):
        raise DataError(
            f"{path}: the column {line(label)} tells {len(names)} classes apart, and these "
            f"networks tell {len(LABELS)}: choose another with {LABEL.option}, or another data set"
        )
    return tuple(line(name) for name in names)


def load_stories(folder: Path | None, split: str, columns: Columns = BY_NAME) -> list[str]:
    """TinyStories, split `train` or `validation`. Raises DataError when missing or odd."""
    files = story_files(folder, split)
    found = [story for stories in read(files, columns) for story in stories]
    tell_null(files, len(found))
    return found


def story_files(folder: Path | None, split: str) -> list[Path]:
    """The Parquet files of TinyStories, in order; raises DataError when there are none."""
    return _files(DataSet.TINYSTORIES, folder, split)


def count(files: Sequence[Path]) -> int:
    """How many rows the files hold. Raises DataError as `read` does."""
    return sum(open_table(path).metadata.num_rows for path in files)


def tell_null(files: Sequence[Path], found: int) -> None:
    """Says on stderr how many rows of the files held null and were left out, if any."""
    if missing := count(files) - found:
        print(f"rows that hold null and no story, left out: {missing}", file=sys.stderr)


def read(files: Sequence[Path], columns: Columns = BY_NAME) -> Iterator[list[str]]:
    """All stories in order, some at a time; rows that hold null are left out. Raises DataError
    for files of another layout, and for text that is not UTF-8."""
    for path in files:
        file = open_table(path)
        name = story_column(path, columns)
        for first, (texts,) in batches(path, file, [name], STORIES_AT_ONCE):
            yield cells.stories(path, name, first, texts)


def story_column(path: Path, columns: Columns) -> str:
    """Raises DataError unless the file has one column of stories."""
    return pick(path, open_table(path), TEXT, columns.text)


def tokenize(stories: Sequence[str], tokenizer: Tokenizer) -> Tokens:
    ids = [np.asarray([*e, tokenizer.end_id]) for e in tokenizer.encode_batch(stories)]
    return Tokens(np.concatenate(ids), sum(len(story.encode()) for story in stories))


def resolve(data: str | None) -> Path | None:
    """The folder given by the option, else by LUMINANET_DATA; None means the hub."""
    chosen = data or os.environ.get(ENVIRONMENT)
    if not chosen:
        return None
    folder = Path(chosen)
    try:
        there = folder.is_dir()
    except OSError as error:
        raise DataError(f"the data folder {folder} cannot be read: {error.strerror}") from error
    if not there:
        raise DataError(f"the data folder {folder} is not there: check --data or {ENVIRONMENT}")
    return folder


def _files(data_set: DataSet, folder: Path | None, split: str) -> list[Path]:
    where = _download(data_set, split) if folder is None else folder
    try:
        inner = where / data_set.value
        where = inner if inner.is_dir() else where
        files, closed = _found(where, split)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not files and closed:
        raise DataError(f"{closed[0].filename} cannot be read: {closed[0].strerror}")
    if not files:
        raise DataError(
            f"no {split}*.parquet of {data_set.value} under {where}: put the Parquet files of "
            f"{REPOSITORIES[data_set]} there, or leave out --data and {ENVIRONMENT} to fetch it"
        )
    for left_out in closed:
        print(f"{left_out.filename} is left out: {left_out.strerror}", file=sys.stderr)
    return files


def _found(where: Path, split: str) -> tuple[list[Path], list[OSError]]:
    """The files of a split under a folder, and the folders that could not be read. A split may be
    a folder of parts, train.parquet/part-0.parquet, as Spark writes it."""
    closed = list[OSError]()
    walk = os.walk(where, onerror=closed.append)
    files = [Path(inner, name) for inner, _, names in walk for name in names]
    named = fnmatch.filter([str(f.relative_to(where)) for f in files], "*.parquet")
    parts = [(where / name, Path(name).parts) for name in named]
    return sorted(f for f, words in parts if fnmatch.filter(words, f"{split}*.parquet")), closed


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
