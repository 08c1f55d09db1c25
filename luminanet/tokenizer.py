"""Text <-> token ids: byte-level BPE of Hugging Face `tokenizers`, stored as its JSON."""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from luminanet.errors import ArtifactError
from luminanet.untrusted import line, parse, shown

END_OF_TEXT = "<|endoftext|>"
LONGEST_RUN = 4000
"""Characters without a space, or spaces alone, that are learned from as one piece: training takes
as long as the square of the longest. A text is encoded whole, however long its runs are."""
SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What the library's pattern takes for spaces."""
LONG_RUN = re.compile(
    rf"(?<![^{SPACES}])[^{SPACES}]{{{LONGEST_RUN + 1},}}"
    rf"|(?<![{SPACES}])[{SPACES}]{{{LONGEST_RUN + 1},}}"
)
HEARD_EVERY_S, PATIENCE_S = 0.1, 1.0
"""How often a training looks for a signal, and how long it may then take to stop before it is left
to end by itself."""

PARTS = {
    "model": "BPE",
    "pre_tokenizer": "ByteLevel",
    "decoder": "ByteLevel",
    "normalizer": None,
    "truncation": None,
    "padding": None,
}
"""What a byte-level BPE consists of. Other parts could take forever, or gigabytes, for one text."""


def _letters() -> dict[str, int]:
    """The letters that byte-level BPE writes for bytes (GPT-2's encoder.py, bytes_to_unicode):
    printable ones as they are, and for the others the characters from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


BYTES = _letters()


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
        """Byte-level BPE of at most `vocab_size` tokens (257 at least: all bytes, END_OF_TEXT).

        Runs of more than LONGEST_RUN characters are learned from in parts. Ctrl-C is heard.
        """
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        _train(inner, trainer, (part for text in texts for part in parts(text)))
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

    def bytes_of(self, id: int) -> bytes:
        """The bytes that a token stands for: of a character, of several, or of a part of one.

        Raises IndexError when there is no such token."""
        token = self._inner.id_to_token(id)
        if token is None:
            raise IndexError(f"there is no token {id}")
        return bytes(BYTES[letter] for letter in token)

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


def parts(text: str) -> Iterator[str]:
    """The text, cut inside its runs of more than LONGEST_RUN characters."""
    start = 0
    for run in LONG_RUN.finditer(text):
        for cut in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
            yield text[start:cut]
            start = cut
    yield text[start:]


def _train(inner: tokenizers.Tokenizer, trainer: Any, texts: Iterator[str]) -> None:
    """In a thread of its own: the library hears of no signal, and a thread that waits does."""
    done, stopped = Future[None](), threading.Event()

    def heeding() -> Iterator[str]:
        for text in texts:
            if stopped.is_set():
                raise KeyboardInterrupt
            yield text

    def work() -> None:
        try:
            inner.train_from_iterator(heeding(), trainer)
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    try:
        threading.Thread(target=work, daemon=True).start()
        while not done.done():
            wait([done], HEARD_EVERY_S)
    except BaseException:
        stopped.set()
        wait([done], PATIENCE_S)
        raise
    done.result()


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
