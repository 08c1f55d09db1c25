"""A split of TinyStories as one stream of a tokenizer's ids.

validation    for final figures
held-out      the share of the training stories that no run of a preset has trained on: for
              choices, so that what is chosen was not chosen by the figures it is shown with
training      the rest of the training stories: for counts, not for figures
"""

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from luminanet.artifact.manifest import TOKENIZER
from luminanet.tokenizer import Tokenizer
from training.data.batches import held_out_tokens
from training.data.corpus import open_corpus
from training.data.datasets import load_stories, tokenize
from training.presets import TEXT_PRESETS

VALIDATION, HELD_OUT, TRAINING = "validation", "held-out", "training"
SPLITS = (VALIDATION, HELD_OUT)
"""What models are judged by."""
PRESET = "tinystories"


class Streams:
    """Each tokenizer's stream of one split, read once. Raises DataError without data."""

    def __init__(self, folder: Path | None, split: str, limit: int | None = None) -> None:
        self.split = split
        self._folder, self._limit = folder, limit
        self._found: dict[str, NDArray[Any]] = {}

    def of(self, tokenizer: str) -> NDArray[Any]:
        """Token ids [N], `limit` of them at most, for a tokenizer as JSON."""
        if tokenizer not in self._found:
            ids_N = self._read(tokenizer)
            self._found[tokenizer] = ids_N[: self._limit]
        return self._found[tokenizer]

    def _read(self, tokenizer: str) -> NDArray[Any]:
        if self.split == VALIDATION:
            stories = load_stories(self._folder, VALIDATION)
            return tokenize(stories, Tokenizer.from_json(tokenizer)).ids_N
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / TOKENIZER
            path.write_text(tokenizer, "utf-8")
            ids_N = open_corpus(self._folder, path, 0, None).tokens.ids_N
        kept = held_out_tokens(len(ids_N), TEXT_PRESETS[PRESET])
        return ids_N[:-kept] if self.split == TRAINING else ids_N[-kept:]
