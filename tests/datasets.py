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
