"""Stories -> one stream of token ids in a mapped file, in memory that does not grow with them.

    tokens.bin     the ids, in uint16, or in uint32 above 65,536 of them
    tokens.json    what they were made from, how many they are, and their tokenizer

Both lie in the folder of the run, where a run that resumes finds them. They are made anew when
the stories' files or the tokenizer have changed by one byte. Stories are read and tokenized some
at a time, and a tokenizer is trained on every k-th story where there are many.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from luminanet.errors import DataError, LuminaNetError, told
from luminanet.tokenizer import Tokenizer
from training.data.datasets import Tokens, count, read, story_column, story_files, tell_null
from training.data.tables import BY_NAME, Columns, readable

if sys.platform != "win32":
    import fcntl

FORMAT = 2
TOKENS, ABOUT = "tokens.bin", "tokens.json"
SAMPLE_STORIES = 100_000
"""A tokenizer is trained on this many stories at most (about 80 MB of text)."""


class Stories(NamedTuple):
    """Where they are: files, and the column in them."""

    files: tuple[Path, ...]
    columns: Columns


@dataclass(frozen=True, slots=True)
class Corpus:
    """All training stories as tokens, mapped from a file."""

    tokens: Tokens
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class About:
    """tokens.json: `key` is a hash of all that the tokens were made from, `bytes` are of text,
    `sha256` is that of tokens.bin."""

    key: str
    count: int
    bytes: int
    tokenizer: str
    sha256: str


def open_corpus(
    folder: Path | None,
    tokenizer: Path | None,
    vocab_size: int,
    cache: Path | None,
    columns: Columns = BY_NAME,
) -> Corpus:
    """The training stories of `folder` (None: of the hub), tokenized unless `cache` has them.

    Without a tokenizer file, one of `vocab_size` tokens is trained. Without a cache, the file
    with the tokens has no name and is gone with the process. Of several processes with one cache,
    one makes the file and the others wait. Raises DataError.
    """
    given = None if tokenizer is None else _given(tokenizer)
    stories = Stories(tuple(story_files(folder, "train")), columns)
    if cache is None:
        try:
            with tempfile.TemporaryFile() as file:
                return _map(file, _write(file, stories, _words(stories, given, vocab_size), ""))
        except OSError as error:
            where = tempfile.gettempdir()
            raise DataError(f"{where} cannot hold the tokens: {told(error)}") from error
    with _alone(cache):
        trained = f"{vocab_size} tokens from {SAMPLE_STORIES} stories"
        key = _key(stories, trained if given is None else given)
        about = _known(cache, key)
        if about is None:
            about = _make(cache, stories, _words(stories, given, vocab_size), key)
        return _map(cache / TOKENS, about)


def _given(path: Path) -> str:
    """The tokenizer's JSON, after it was tried. Raises DataError."""
    if not path.is_file():
        raise DataError(f"the tokenizer {path} is not there: check --tokenizer")
    try:
        text = path.read_text("utf-8")
        Tokenizer.from_json(text)
    except OSError as error:
        raise DataError(f"the tokenizer {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, LuminaNetError) as error:
        raise DataError(f"the tokenizer {path} is damaged, or none: {error}") from error
    return text


def sample(files: Sequence[Path], columns: Columns = BY_NAME) -> Iterator[str]:
    """Every k-th story, with the least k that leaves SAMPLE_STORIES of them or fewer."""
    stride = max(1, -(-count(files) // SAMPLE_STORIES))
    stories = (story for stories in read(files, columns) for story in stories)
    return (story for number, story in enumerate(stories) if number % stride == 0)


def _words(stories: Stories, given: str | None, vocab_size: int) -> Tokenizer:
    if given is not None:
        return Tokenizer.from_json(given)
    return Tokenizer.train(sample(*stories), vocab_size)


def _key(stories: Stories, tokenizer: str) -> str:
    """Of contents, not of names and times: a copied folder is the same data."""
    found = hashlib.sha256(f"{FORMAT}\n{tokenizer}".encode())
    for path in stories.files:
        found.update(f"\n{story_column(path, stories.columns)}\n".encode())
        found.update(bytes.fromhex(_digest(path)))
    return found.hexdigest()


def _digest(path: Path) -> str:
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(cache: Path, key: str) -> About | None:
    """What is there, if it is whole and was made from the same."""
    try:
        about = About(**json.loads((cache / ABOUT).read_text("utf-8")))
        kind = np.dtype(_kind(Tokenizer.from_json(about.tokenizer)))
        whole = (cache / TOKENS).stat().st_size == about.count * kind.itemsize
        known = whole and about.key == key and _digest(cache / TOKENS) == about.sha256
    except (OSError, ValueError, TypeError, RecursionError, LuminaNetError):
        return None
    return about if known else None


def _make(cache: Path, stories: Stories, tokenizer: Tokenizer, key: str) -> About:
    """tokens.json goes first and comes last, so that it never tells of other tokens."""
    fresh = cache / f".{TOKENS}"
    try:
        (cache / ABOUT).unlink(missing_ok=True)
        with fresh.open("wb") as file:
            about = _write(file, stories, tokenizer, key)
        fresh.replace(cache / TOKENS)
        fresh = cache / f".{ABOUT}"
        fresh.write_text(json.dumps(asdict(about)) + "\n", "utf-8")
        fresh.replace(cache / ABOUT)
    except OSError as error:
        raise DataError(f"{cache} cannot hold the tokens: {told(error)}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return about


def _write(file: IO[bytes], stories: Stories, tokenizer: Tokenizer, key: str) -> About:
    """Appends the tokens of all stories, each followed by the end token."""
    kind, total, size, found, digest = _kind(tokenizer), 0, 0, 0, hashlib.sha256()
    for texts in read(*stories):
        for ids in tokenizer.encode_batch(texts):
            ids.append(tokenizer.end_id)
            data = np.asarray(ids, kind).tobytes()
            file.write(data)
            digest.update(data)
            total += len(ids)
        size += sum(len(text.encode()) for text in texts)
        found += len(texts)
    file.flush()
    tell_null(stories.files, found)
    if not total:
        where = stories.files[0]
        raise DataError(f"there is no story in {where}: put the stories' Parquet files there")
    return About(key, total, size, tokenizer.to_json(), digest.hexdigest())


def _map(file: IO[bytes] | Path, about: About) -> Corpus:
    tokenizer = Tokenizer.from_json(about.tokenizer)
    ids_N = np.memmap(file, _kind(tokenizer), "r", shape=(about.count,))
    return Corpus(Tokens(ids_N, about.bytes), tokenizer)


def _kind(tokenizer: Tokenizer) -> DTypeLike:
    return np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """No other process is in here with this folder; the lock ends with its holder. On Windows
    there is none, and processes that share a folder have to take turns."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / f".{TOKENS}.lock").open("wb")
    except OSError as error:
        raise DataError(f"{cache} cannot hold the tokens: {told(error)}") from error
    with lock:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
