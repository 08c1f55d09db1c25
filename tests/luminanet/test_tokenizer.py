import json
import re
import signal
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from luminanet import tokenizer as module
from luminanet.errors import ArtifactError
from luminanet.tokenizer import END_OF_TEXT, LONGEST_RUN, SPACES, Tokenizer, parts
from tests.nets import SENTENCES, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.text())
def test_streamed_text_is_the_whole_text(text: str) -> None:
    stream = TOKENIZER.stream()
    assert "".join(stream.push(token) for token in TOKENIZER.encode(text)) == text


def test_a_character_is_held_back_until_it_is_complete() -> None:
    stream = TOKENIZER.stream()
    pieces = [stream.push(token) for token in TOKENIZER.encode("\N{SNOWMAN}")]
    assert pieces[:-1] == [""] * (len(pieces) - 1)
    assert pieces[-1] == "\N{SNOWMAN}"


def test_text_that_spells_the_end_token_is_not_that_token() -> None:
    assert TOKENIZER.end_id not in TOKENIZER.encode(f"a {END_OF_TEXT} b")


def test_batches_are_encoded_like_single_texts() -> None:
    assert TOKENIZER.encode_batch(SENTENCES) == [TOKENIZER.encode(s) for s in SENTENCES]


def test_training_twice_gives_the_same_tokenizer() -> None:
    assert tiny_tokenizer().to_json() == TOKENIZER.to_json()
    assert Tokenizer.from_json(TOKENIZER.to_json()).to_json() == TOKENIZER.to_json()


@pytest.mark.parametrize("text", ["", "{}", "nonsense"])
def test_what_is_not_a_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="not a tokenizer"):
        Tokenizer.from_json(text)


@pytest.mark.parametrize("dropout", [0.1, 1, 0.0, "0.5"])
def test_a_tokenizer_that_encodes_at_random_is_refused(dropout: object) -> None:
    described = json.loads(TOKENIZER.to_json())
    assert described["model"]["dropout"] is None
    described["model"]["dropout"] = dropout
    with pytest.raises(ArtifactError, match=r"has dropout .*: set it to null"):
        Tokenizer.from_json(json.dumps(described))


def test_a_tokenizer_without_the_end_token_is_refused() -> None:
    with pytest.raises(ArtifactError, match="endoftext"):
        Tokenizer.from_json(TOKENIZER.to_json().replace(END_OF_TEXT, "<|other|>"))


# ---------------------------------------------------------------------- training

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


def longest_piece(text: str) -> int:
    """Characters of what the library takes for one piece."""
    return max((end - start for _, (start, end) in BYTE_LEVEL.pre_tokenize_str(text)), default=0)


def test_a_text_without_long_runs_is_learned_from_as_it_is() -> None:
    for text in ("", "a", "a" * LONGEST_RUN, "word " * LONGEST_RUN, " \n" * (LONGEST_RUN // 2)):
        assert list(parts(text)) == [text]


@pytest.mark.parametrize(
    "run",
    ["a", "ab", "7", "-", " ", "\n", "\t \n", "\N{SNOWMAN}", "\x1c", "!\x1c", "\x00"],
)
def test_no_piece_of_a_long_run_is_long(run: str) -> None:
    text = f"before {run * (3 * LONGEST_RUN)} after"
    assert longest_piece(text) > LONGEST_RUN
    found = list(parts(text))
    assert "".join(found) == text
    assert max(map(longest_piece, found)) <= LONGEST_RUN + 1  # and the space before it


def test_spaces_are_what_the_library_takes_for_spaces() -> None:
    spaces = re.compile(f"[{SPACES}]")
    for char in map(chr, [*range(0xD800), *range(0xE000, 0x11000)]):
        if unicodedata.category(char)[0] not in "LN" and unicodedata.category(char) != "Cn":
            apart = len(BYTE_LEVEL.pre_tokenize_str(f"!{char}{char}!")) > 1
            assert bool(spaces.match(char)) == apart, hex(ord(char))


def test_a_tokenizer_learns_the_same_from_a_long_run_as_from_its_parts() -> None:
    cut = ["a" * LONGEST_RUN, "a" * LONGEST_RUN, "a" * 100, *SENTENCES]
    whole = ["a" * (2 * LONGEST_RUN + 100), *SENTENCES]
    assert Tokenizer.train(whole, 400).to_json() == Tokenizer.train(cut, 400).to_json()


def test_an_error_of_the_texts_is_the_error_of_the_training() -> None:
    def texts() -> Iterator[str]:
        yield "a b c"
        raise ArtifactError("no more")

    with pytest.raises(ArtifactError, match="no more"):
        Tokenizer.train(texts(), 300)


class Computing:
    """A library that computes until it may end, whoever is waiting."""

    def __init__(self) -> None:
        self.started, self.may_end, self.over = (threading.Event() for _ in range(3))
        self.ended = list[BaseException]()

    def train_from_iterator(self, texts: Iterator[str], _: object) -> None:
        try:
            assert next(texts) == "a"
            self.started.set()
            assert self.may_end.wait(60)
            next(texts)
        except BaseException as error:
            self.ended.append(error)
            raise
        finally:
            self.over.set()

    def interrupt(self) -> None:
        assert self.started.wait(60)
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_heard_while_the_library_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    library: Any = Computing()
    threading.Thread(target=library.interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        module._train(library, None, iter(["a", "b"]))
    assert not library.ended  # it is still computing
    library.may_end.set()
    assert library.over.wait(60)
    assert [type(error) for error in library.ended] == [KeyboardInterrupt]  # and goes no further
