"""Small generated data sets, as Parquet in the layout of the real ones."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("Lily", "Tom", "Mia", "Ben")
THINGS = ("ball", "dog", "hat", "boat", "cake")


def write_images(folder: Path, train: int = 120, test: int = 20) -> None:
    """Noise around one colour per class, as PNG."""
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 215, (10, 3))
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        noise = rng.integers(-30, 30, (count, 32, 32, 3))
        pixels = (colours[labels][:, None, None] + noise).astype(np.uint8)
        cells = [{"bytes": _png(image), "path": "x.png"} for image in pixels]
        _write(folder / "cifar10" / f"{split}.parquet", {"img": cells, "label": labels.tolist()})


def write_stories(folder: Path, train: int = 60, validation: int = 10) -> None:
    rng = np.random.default_rng(0)

    def story() -> str:
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        return f"Once upon a time, {name} had a {thing}. {name} liked the {thing} very much."

    for split, count in (("train", train), ("validation", validation)):
        texts = [story() for _ in range(count)]
        _write(folder / "tinystories" / f"{split}.parquet", {"text": texts})


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pyarrow.table(columns), path)


def write_many_stories(folder: Path, megabytes: int, files: int = 4) -> None:
    """Megabytes of short stories in several files, small on disk and written in seconds: all are
    made of the same 500 sentences of made-up words. Letters of three bytes halve the time that a
    tokenizer takes for a megabyte."""
    rng = np.random.default_rng(0)
    letters = rng.choice([chr(0x4E00 + i) for i in range(40)], (800, 12))
    words = ["".join(row[:n]) for row, n in zip(letters, rng.integers(3, 13, 800), strict=True)]
    sentences = [" ".join(rng.choice(words, 9)).capitalize() + "." for _ in range(500)]
    story_bytes = 4 * (sum(len(s.encode()) for s in sentences) / len(sentences) + 1)
    stories = round(megabytes * 1e6 / story_bytes / files)
    for number in range(files):
        rows = rng.integers(0, len(sentences), (stories, 4)).tolist()
        texts = [" ".join([sentences[i] for i in row]) for row in rows]
        path = folder / "tinystories" / f"train-{number:05}-of-{files:05}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pyarrow.table({"text": texts}), path, compression="zstd")
