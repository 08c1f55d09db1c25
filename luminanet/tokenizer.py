"""Text <-> token ids: byte-level BPE of Hugging Face `tokenizers`, stored as its JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from luminanet.errors import ArtifactError
from luminanet.untrusted import line, parse, shown

END_OF_TEXT = "<|endoftext|>"


PARTS = {
    "model": "BPE",
    "pre_tokenizer": "ByteLevel",
    "decoder": "ByteLevel",
    "normalizer": None,
    "truncation": None,
    "padding": None,
}
"""What a byte-level BPE consists of. Other parts could take forever, or gigabytes, for one text."""


class Tokenizer:
    """Encodes any text without loss; a text that spells END_OF_TEXT is never that token."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        end_id = inner.token_to_id(END_OF_TEXT)
        if end_id is None:
            raise ArtifactError(f"the tokenizer has no {END_OF_TEXT} token: train it again")
        inner.encode_special_tokens = True
        self._inner = inner
        self.end_id: int = end_id
        self.vocab_size: int = inner.get_vocab_size()

    @staticmethod
    def train(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Byte-level BPE of at most `vocab_size` tokens (257 at least: all bytes, END_OF_TEXT)."""
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Raises ArtifactError unless it is a byte-level BPE with END_OF_TEXT."""
        try:
            _check_parts(parse(text))
            inner = tokenizers.Tokenizer.from_str(text)
            ids = sorted(inner.get_vocab().values())
            if ids != list(range(len(ids))):
                raise ValueError("its token ids are not 0, 1, 2, ..")
        except Exception as error:  # the library raises plain Exception
            raise ArtifactError(f"not a tokenizer: {line(error)}") from error
        return Tokenizer(inner)

    @staticmethod
    def from_parts(vocabulary: Mapping[str, int], merges: str) -> "Tokenizer":
        """The two files of the first GPT-2s: vocab.json, token -> id, and merges.txt, a pair of
        tokens on each line behind its #version. Raises ArtifactError as `from_json`."""
        try:
            inner = tokenizers.Tokenizer(models.BPE(dict(vocabulary), _pairs(merges)))
        except Exception as error:  # the library raises plain Exception
            raise ArtifactError(f"not a tokenizer: {line(error)}") from error
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        if END_OF_TEXT in vocabulary:
            inner.add_special_tokens([END_OF_TEXT])
        return Tokenizer.from_json(inner.to_str())

    def to_json(self) -> str:
        return self._inner.to_str(pretty=False)

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Like `encode`, on all cores."""
        return [e.ids for e in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> "TextStream":
        return TextStream(self._inner)


def _pairs(merges: str) -> list[tuple[str, str]]:
    """No token has a space or a line break in it: byte-level BPE writes other letters for them."""
    pairs = []
    for number, text in enumerate(merges.replace("\r\n", "\n").split("\n"), 1):
        if not text or (number == 1 and text.startswith("#version")):
            continue
        first, _, second = text.partition(" ")
        if not first or not second or " " in second:
            raise ValueError(f"line {number} of its merges is {shown(text)}, not two tokens")
        pairs.append((first, second))
    return pairs


def _check_parts(raw: Any) -> None:
    for part, kind in PARTS.items():
        found = raw.get(part)
        if kind and isinstance(found, dict):
            found = found.get("type")
        if found != kind:
            raise ValueError(f"its {part} is {shown(found)}, and only {kind} is taken")
    model = raw["model"]
    if isinstance(model, dict) and model.get("dropout") is not None:
        raise ValueError(
            f"its model has dropout {shown(model['dropout'])}, so that a text is other tokens "
            "each time: set it to null"
        )


class TextStream:
    """Decodes token by token and holds back the bytes of a character that is not complete."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self._stream = decoders.DecodeStream(skip_special_tokens=True)

    def push(self, id: int) -> str:
        """The text that `id` completes; "" while a character is still open."""
        return self._stream.step(self._inner, id) or ""
