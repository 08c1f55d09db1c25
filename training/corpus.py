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
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from luminanet.errors import DataError, LuminaNetError
from luminanet.tokenizer import Tokenizer
from training.data import Tokens, count, read, story_files

if sys.platform != "win32":
    import fcntl

FORMAT = 1
TOKENS, ABOUT = "tokens.bin", "tokens.json"
SAMPLE_STORIES = 100_000
"""A tokenizer is trained on this many stories at most (about 80 MB of text)."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """All training stories as tokens, mapped from a file."""

    tokens: Tokens
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class About:
    """tokens.json: `key` is a hash of all that the tokens were made from, `bytes` are of text."""

    key: str
    count: int
    bytes: int
    tokenizer: str


def open_corpus(
    folder: Path | None, tokenizer: Path | None, vocab_size: int, cache: Path | None
) -> Corpus:
    """The training stories of `folder` (None: of the hub), tokenized unless `cache` has them.

    Without a tokenizer file, one of `vocab_size` tokens is trained. Without a cache, the file
    with the tokens has no name and is gone with the process. Of several processes with one cache,
    one makes the file and the others wait. Raises DataError.
    """
    if tokenizer is not None and not tokenizer.is_file():
        raise DataError(f"the tokenizer {tokenizer} is not there: check --tokenizer")
    given = tokenizer.read_text("utf-8") if tokenizer else None
    files = story_files(folder, "train")
    if cache is None:
        with tempfile.TemporaryFile() as file:
            return _map(file, _write(file, files, _words(files, given, vocab_size), ""))
    with _alone(cache):
        trained = f"{vocab_size} tokens from {SAMPLE_STORIES} stories"
        key = _key(files, trained if given is None else given)
        about = _known(cache, key)
        if about is None:
            about = _make(cache, files, _words(files, given, vocab_size), key)
        return _map(cache / TOKENS, about)


def sample(files: Sequence[Path]) -> Iterator[str]:
    """Every k-th story, with the least k that leaves SAMPLE_STORIES of them or fewer."""
    stride = max(1, -(-count(files) // SAMPLE_STORIES))
    stories = (story for stories in read(files) for story in stories)
    return (story for number, story in enumerate(stories) if number % stride == 0)


def _words(files: Sequence[Path], given: str | None, vocab_size: int) -> Tokenizer:
    if given is not None:
        return Tokenizer.from_json(given)
    return Tokenizer.train(sample(files), vocab_size)


def _key(files: Sequence[Path], tokenizer: str) -> str:
    """Of contents, not of names and times: a copied folder is the same data."""
    found = hashlib.sha256(f"{FORMAT}\n{tokenizer}".encode())
    for path in files:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _known(cache: Path, key: str) -> About | None:
    """What is there, if it is whole and was made from the same."""
    try:
        about = About(**json.loads((cache / ABOUT).read_text("utf-8")))
        kind = np.dtype(_kind(Tokenizer.from_json(about.tokenizer)))
        whole = (cache / TOKENS).stat().st_size == about.count * kind.itemsize
    except (OSError, ValueError, TypeError, LuminaNetError):
        return None
    return about if whole and about.key == key else None


def _make(cache: Path, files: Sequence[Path], tokenizer: Tokenizer, key: str) -> About:
    """tokens.json goes first and comes last, so that it never tells of other tokens."""
    fresh = cache / f".{TOKENS}"
    try:
        (cache / ABOUT).unlink(missing_ok=True)
        with fresh.open("wb") as file:
            about = _write(file, files, tokenizer, key)
        fresh.replace(cache / TOKENS)
        fresh = cache / f".{ABOUT}"
        fresh.write_text(json.dumps(asdict(about)) + "\n", "utf-8")
        fresh.replace(cache / ABOUT)
    except OSError as error:
        raise DataError(f"{cache} cannot hold the tokens: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return about


def _write(file: IO[bytes], files: Sequence[Path], tokenizer: Tokenizer, key: str) -> About:
    """Appends the tokens of all stories, each followed by the end token."""
    kind, total, size = _kind(tokenizer), 0, 0
    for stories in read(files):
        for ids in tokenizer.encode_batch(stories):
            ids.append(tokenizer.end_id)
            file.write(np.asarray(ids, kind).tobytes())
            total += len(ids)
        size += sum(len(story.encode()) for story in stories)
    file.flush()
    if not total:
        raise DataError(f"there is no story in {files[0]}: put the stories' Parquet files there")
    return About(key, total, size, tokenizer.to_json())


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
        raise DataError(f"{cache} cannot hold the tokens: {error}") from error
    with lock:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
