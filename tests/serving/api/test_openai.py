"""OpenAI's own client works unchanged, and what is beyond the engines is refused in its words."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from luminanet.artifact.manifest import Family
from serving.engines.engine import LONGEST_RETRY_S
from serving.models.load import Models
from tests.serving.helpers import (
    Running,
    all_cancelled,
    crowded,
    frames,
    gated,
    running,
    wait_until,
)

LABELS = {"model": "luminanet", "backend": "ort_cpu", "task": "text-generation"}
FINISHED = "requests_finished_total"
CALM: dict[str, Any] = {"model": "luminanet", "max_tokens": 6, "seed": 3}


def connected(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.client.base_url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with connected(server) as client:
        yield client


def generated(server: Running, prompt: str, seed: int, tokens: int = 6) -> Any:
    body = {"temperature": 1.0, "top_k": 0, "logprobs": True}
    return server.post("/generate", prompt=prompt, seed=seed, max_tokens=tokens, **body).json()


# ---------------------------------------------------------------------- answers


def test_a_completion_is_what_generate_writes(server: Running, client: openai.OpenAI) -> None:
    answer = client.completions.create(prompt="a b", **CALM)
    ours = generated(server, "a b", 3)
    (choice,) = answer.choices
    assert answer.usage is not None
    assert (answer.object, answer.model) == ("text_completion", "luminanet")
    assert (choice.text, choice.finish_reason) == (ours["text"], ours["finish_reason"])
    assert answer.usage.model_dump(exclude_none=True) == ours["usage"]


def test_the_defaults_are_those_of_openai(server: Running, client: openai.OpenAI) -> None:
    answer = client.completions.create(model="gpt2", prompt="a b", seed=1)
    same = client.completions.create(
        model="gpt2", prompt="a b", seed=1, max_tokens=16, temperature=1, top_p=1
    )
    assert answer.choices == same.choices
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 16


def test_choice_i_is_drawn_with_the_seed_plus_i(server: Running, client: openai.OpenAI) -> None:
    answer = client.completions.create(prompt=["a b", "c"], n=2, **CALM)
    prompts = ["a b", "a b", "c", "c"]
    alone = [generated(server, prompt, 3 + i) for i, prompt in enumerate(prompts)]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [one["text"] for one in alone]
    once = alone[0]["usage"]["prompt_tokens"] + alone[2]["usage"]["prompt_tokens"]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == once
    assert answer.usage.completion_tokens == sum(one["usage"]["completion_tokens"] for one in alone)


def test_the_largest_seed_has_followers(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="luminanet", prompt="a", n=2, seed=2**63 - 1)
    first = client.completions.create(model="luminanet", prompt="a", seed=0)
    assert answer.choices[1].text == first.choices[0].text


def test_a_prompt_may_be_token_ids(server: Running, client: openai.OpenAI) -> None:
    ids = [server.post("/tokenize", prompt=text).json()["tokens"] for text in ("a b", "c")]
    texts = client.completions.create(prompt=["a b", "c"], **CALM)
    lists = client.completions.create(prompt=ids, **CALM)
    alone = client.completions.create(prompt=ids[0], **CALM)
    assert lists.choices == texts.choices
    assert alone.choices == texts.choices[:1]


def test_echo_begins_with_the_prompt(client: openai.OpenAI) -> None:
    plain = client.completions.create(prompt="a b", **CALM)
    echoed = client.completions.create(prompt="a b", echo=True, **CALM)
    stream = client.completions.create(prompt="a b", echo=True, stream=True, **CALM)
    assert echoed.choices[0].text == "a b" + plain.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in stream) == echoed.choices[0].text


def test_logprobs_name_the_tokens_that_were_drawn(server: Running, client: openai.OpenAI) -> None:
    answer = client.completions.create(prompt="a b", logprobs=0, **CALM)
    ours = generated(server, "a b", 3)
    (choice,) = answer.choices
    logs = choice.logprobs
    assert logs is not None
    assert logs.tokens is not None
    assert logs.text_offset is not None
    assert logs.token_logprobs == ours["logprobs"]
    assert logs.top_logprobs is None
    assert len(logs.tokens) == len(logs.text_offset) == ours["usage"]["completion_tokens"]
    assert logs.text_offset == sorted(logs.text_offset)
    for token, offset in zip(logs.tokens, logs.text_offset, strict=True):
        if not token.startswith(("bytes:", "<|endoftext|>")):
            assert token in choice.text[offset : offset + len(token) + 3], "after U+FFFDs at most"


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_the_most_likely_tokens_have_the_one_drawn_among_them(
    server: Running, client: openai.OpenAI, model: str
) -> None:
    asked: dict[str, Any] = {**CALM, "model": model, "prompt": "a b"}
    (choice,) = client.completions.create(**asked, logprobs=3).choices
    ours = server.post(
        "/generate", prompt="a b", seed=3, max_tokens=6, temperature=1, top_k=0, model=model,
        logprobs=True, top_logprobs=3,
    ).json()  # fmt: skip
    logs = choice.logprobs
    assert logs is not None
    assert logs.tokens is not None
    assert logs.token_logprobs == ours["logprobs"]
    assert logs.top_logprobs is not None
    for token, log, top, known in zip(
        logs.tokens, ours["logprobs"], logs.top_logprobs, ours["top_logprobs"], strict=True
    ):
        assert top == {token: log} | {other["token"]: other["logprob"] for other in known}


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_scores_the_prompt(
    server: Running, client: openai.OpenAI, model: str, stream: bool
) -> None:
    """As lm-eval's local-completions asks: prompts as token ids, and one token or none drawn."""
    prompts = [server.post("/tokenize", prompt=t).json()["tokens"] for t in ("a b c", "q")]
    for max_tokens in 0, 1:
        asked: dict[str, Any] = {"model": model, "prompt": prompts, "echo": True, "logprobs": 1}
        asked |= {"max_tokens": max_tokens, "temperature": 0, "seed": 1234}
        whole = client.completions.create(**asked)
        for text, prompt, choice in zip(("a b c", "q"), prompts, whole.choices, strict=True):
            logs = choice.logprobs
            assert logs is not None
            assert logs.tokens is not None
            assert logs.token_logprobs is not None
            assert logs.top_logprobs is not None
            assert choice.text.startswith(text)
            assert "".join(logs.tokens[: len(prompt)]) == text
            assert len(logs.token_logprobs) == len(prompt) + max_tokens
            assert (logs.token_logprobs[0], logs.top_logprobs[0]) == (None, None)
            for log, top in list(zip(logs.token_logprobs, logs.top_logprobs, strict=True))[1:]:
                assert log in top.values()
            if max_tokens:
                assert logs.token_logprobs[-1] == max(logs.top_logprobs[-1].values())
        if stream:
            chunks = list(client.completions.create(**asked, stream=True))
            for expected in whole.choices:
                parts = [c for chunk in chunks for c in chunk.choices if c.index == expected.index]
                assert "".join(part.text for part in parts) == expected.text
                for name in "tokens", "token_logprobs", "text_offset", "top_logprobs":
                    told = [value for part in parts for value in getattr(part.logprobs, name)]
                    assert told == getattr(expected.logprobs, name)


def test_fields_of_vllm_are_taken(server: Running, client: openai.OpenAI) -> None:
    end = server.service.models.text[Family.LUMINANET].manifest.end_id
    asked: dict[str, Any] = {**CALM, "prompt": "a", "logit_bias": {str(end): 100}}
    ended = client.completions.create(**asked).choices[0]
    held = client.completions.create(**asked, extra_body={"min_tokens": 6}).choices[0]
    passed = client.completions.create(**asked, extra_body={"ignore_eos": True}).choices[0]
    reasons = [choice.finish_reason for choice in (ended, held, passed)]
    assert reasons == ["stop", "length", "length"]
    with pytest.raises(openai.BadRequestError, match="min_tokens"):
        client.completions.create(**asked, extra_body={"min_tokens": 7})


def test_a_stream_has_the_texts_the_logprobs_and_then_the_usage(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {**CALM, "prompt": ["a b", "c"], "n": 2, "logprobs": 0}
    whole = client.completions.create(**asked)
    stream = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    *chunks, last = list(stream)
    assert (last.choices, last.usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in chunks)
    for expected in whole.choices:
        parts = [c for chunk in chunks for c in chunk.choices if c.index == expected.index]
        assert "".join(part.text for part in parts) == expected.text
        assert [part.finish_reason for part in parts if part.finish_reason] == [
            expected.finish_reason
        ]
        for name in "tokens", "token_logprobs", "text_offset":
            told = [value for part in parts for value in getattr(part.logprobs, name)]
            assert told == getattr(expected.logprobs, name)


def test_usage_is_told_only_to_those_who_ask(server: Running) -> None:
    *chunks, done = frames(server.post("/v1/completions", prompt="a", stream=True))
    assert done == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"luminanet", "gpt2"}
    assert client.models.retrieve("gpt2").id == "gpt2"


def test_the_metrics_know_a_path_with_a_name_in_it(server: Running, client: openai.OpenAI) -> None:
    counted = {"route": "/v1/models/{model}", "code": "200"}
    before = server.metric("requests_total", **counted)
    client.models.retrieve("luminanet")
    wait_until(lambda: server.metric("requests_total", **counted) == before + 1)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logprobs", 21),
        ("logprobs", -1),
        ("best_of", 3),
        ("suffix", "end"),
        ("logit_bias", {"5": 101}),
        ("logit_bias", {"100000": 1}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -0.5),
        ("stream_options", {"include_usage": True}),
        ("max_tokens", 0),
        ("max_tokens", 10**9),
        ("n", 10**9),
        ("prompt", ""),
        ("prompt", []),
        ("prompt", [[]]),
        ("prompt", ["a", 1]),
        ("prompt", [10**6]),
        ("prompt", [-1]),
        ("prompt", [1] * 5000),
        ("prompt", "a" * 100_000),
    ],
)
def test_what_is_refused_is_named(client: openai.OpenAI, field: str, value: Any) -> None:
    body: dict[str, Any] = {"model": "luminanet", "prompt": "a", field: value}
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**body)
    error = refused.value
    assert (error.param, error.type, error.code) == (
        field,
        "invalid_request_error",
        "invalid_request",
    )


def test_one_of_several_prompts_that_is_refused_is_named(client: openai.OpenAI) -> None:
    for prompts in ["a", "a b " * 400], [[1], [10**6]]:
        asked: Any = prompts
        with pytest.raises(openai.BadRequestError, match=r"prompt\[1\]: ") as refused:
            client.completions.create(model="luminanet", prompt=asked)
        assert refused.value.param == "prompt[1]"


def test_what_changes_nothing_is_taken(client: openai.OpenAI) -> None:
    plain = client.completions.create(prompt="a", **CALM)
    same = client.completions.create(
        prompt="a", user="me", best_of=1, suffix="", logit_bias={}, presence_penalty=0, **CALM
    )
    assert same.choices == plain.choices


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    for ask in (
        lambda: client.completions.create(model="gpt-5", prompt="a"),
        lambda: client.models.retrieve("gpt-5"),
    ):
        with pytest.raises(openai.NotFoundError) as missing:
            ask()
        assert missing.value.code == "model_not_found"


def test_several_texts_get_places_for_all_or_for_none(models: Models) -> None:
    with (
        crowded(models) as server,
        connected(server) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.completions.create(model="luminanet", prompt="a", n=2)
    assert refused.value.type == "rate_limit_error"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= LONGEST_RETRY_S


def test_a_client_that_leaves_takes_all_its_texts_along(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        body = {"prompt": ["a", "b"], "max_tokens": 4000, "stream": True, "seed": 1, "n": 2}
        backend.closing_at = backend.runs + 2
        with server.client.stream("POST", "/v1/completions", json=body) as response:
            next(response.iter_lines())
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        cancelled = {"finish_reason": "cancelled", **LABELS}
        wait_until(lambda: server.metric(FINISHED, **cancelled) == 4)


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_of_the_network_is_raised_by_the_client(models: Models, stream: bool) -> None:
    bad, backend = gated(models)
    with running(bad) as server, connected(server) as client:
        backend.broken = True
        with pytest.raises(openai.APIError, match="the network failed") as failed:
            list(client.completions.create(model="luminanet", prompt="a", stream=stream, n=2))
    assert failed.value.type == "server_error"
