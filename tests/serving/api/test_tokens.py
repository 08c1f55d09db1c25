"""Texts become tokens and tokens texts, without loss."""

import pytest

from tests.serving.helpers import Running


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
@pytest.mark.parametrize("text", ["", "a b", "<|endoftext|>", "naïve 🙂\u2028\n"])
def test_a_text_comes_back(server: Running, text: str, model: str) -> None:
    told = server.post("/tokenize", prompt=text, model=model, return_token_strs=True).json()
    assert told["count"] == len(told["tokens"]) == len(told["token_strs"])
    assert told["max_model_len"] > 0
    back = server.post("/detokenize", tokens=told["tokens"], model=model).json()
    assert back == {"prompt": text}


def test_every_token_has_its_bytes(server: Running) -> None:
    text = "a 🙂"
    data = b""
    for token in server.post("/tokenize", prompt=text, return_token_strs=True).json()["token_strs"]:
        part = token.removeprefix("bytes:")
        data += token.encode() if part == token else bytes.fromhex(part.replace("\\x", ""))
    assert data.decode() == text


def test_texts_of_tokens_are_told_only_to_those_who_ask(server: Running) -> None:
    assert set(server.post("/tokenize", prompt="a").json()) == {"count", "max_model_len", "tokens"}


@pytest.mark.parametrize("tokens", [[-1], [10**6], ["a"], [1] * 5000])
def test_what_is_no_token_is_refused(server: Running, tokens: list[object]) -> None:
    response = server.post("/detokenize", tokens=tokens)
    assert response.status_code == 422
    assert response.json()["error"]["param"].startswith("tokens")


def test_a_text_that_is_too_long_is_told_so(server: Running) -> None:
    response = server.post("/tokenize", prompt="a b " * 1500)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "prompt"
