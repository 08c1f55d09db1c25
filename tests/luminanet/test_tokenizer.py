import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminanet.errors import ArtifactError
from luminanet.tokenizer import END_OF_TEXT, Tokenizer
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
