"""POST /generate over a real socket: answers, streams, seeds, limits and clients that leave."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from luminanet.artifact.manifest import Family
from serving.engines.engine import LONGEST_RETRY_S
from serving.models.load import Models
from tests.serving.helpers import Running, all_cancelled, frames, gated, running, wait_until

PROMPT = "Once upon a time"
LABELS = {"model": "luminanet", "backend": "ort_cpu", "task": "text-generation"}
FINISHED = "requests_finished_total"


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_an_answer_has_text_reason_usage_model_and_seed(server: Running, model: str) -> None:
    response = server.post("/generate", prompt=PROMPT, max_tokens=7, seed=1, model=model)
    answer = response.json()
    prompt_tokens = len(server.service.models.text[Family(model)].tokenizer.encode(PROMPT))
    assert response.status_code == 200
    assert isinstance(answer.pop("text"), str)
    assert answer == {
        "finish_reason": "length",
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 7,
            "total_tokens": prompt_tokens + 7,
        },
        "model": model,
        "seed": 1,
    }


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_a_stream_has_the_same_text_and_ends_with_usage_and_done(
    server: Running, model: str
) -> None:
    body = {"prompt": PROMPT, "max_tokens": 9, "seed": 5, "model": model}
    whole = server.post("/generate", **body).json()
    stream = server.post("/generate", **body, stream=True)
    *pieces, last, done = frames(stream)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert "".join(piece["text"] for piece in pieces) == whole.pop("text")
    assert all(list(piece) == ["text"] and piece["text"] for piece in pieces)
    assert last == whole
    assert done == "[DONE]"


def test_temperature_0_is_greedy_whatever_the_seed(server: Running) -> None:
    def text(seed: int) -> str:
        body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 12, "seed": seed}
        return str(server.post("/generate", **body).json()["text"])

    assert text(1) == text(2)


def test_without_a_seed_one_is_chosen_and_told(server: Running) -> None:
    body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 1.5}
    first, second = (server.post("/generate", **body).json() for _ in range(2))
    assert first["seed"] != second["seed"]
    for answer in (first, second):
        assert answer["seed"] < 2**53, "a reader of JSON may hold it as a double"
    again = server.post("/generate", **body, seed=first["seed"]).json()
    assert again == first


def test_many_requests_at_once_get_the_texts_they_get_alone(server: Running) -> None:
    def text(seed: int) -> str:
        model = "gpt2" if seed % 2 else "luminanet"
        body = {"prompt": PROMPT[: seed + 3], "max_tokens": 10 + seed, "model": model}
        return str(server.post("/generate", **body, seed=seed).json()["text"])

    alone = [text(seed) for seed in range(10)]
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(text, range(10))) == alone


def test_a_stop_string_ends_the_text_whole_and_streamed(server: Running) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 14, "seed": 5, "top_k": 0}
    free = server.post("/generate", **body).json()
    stop = free["text"][3:6]
    cut = free["text"].index(stop)
    stopped = server.post("/generate", **body, stop=stop).json()
    assert stopped["text"] == free["text"][:cut]
    assert stopped["finish_reason"] == "stop"
    assert stopped["usage"]["completion_tokens"] < 14
    *pieces, last, _ = frames(server.post("/generate", **body, stop=["zzzz", stop], stream=True))
    assert "".join(piece["text"] for piece in pieces) == stopped["text"]
    assert last["finish_reason"] == "stop"


def test_gpt2_ends_with_length_when_its_cache_is_full(server: Running) -> None:
    context = server.service.models.text[Family.GPT2].manifest.context
    body = {"prompt": PROMPT, "max_tokens": 500, "model": "gpt2", "seed": 1}
    answer = server.post("/generate", **body).json()
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == context + 1  # the last token needs no position


def test_luminanet_writes_on_beyond_its_context(server: Running) -> None:
    context = server.service.models.text[Family.LUMINANET].manifest.context
    body = {"prompt": PROMPT, "max_tokens": 4 * context, "temperature": 0}
    assert server.post("/generate", **body).json()["usage"]["completion_tokens"] == 4 * context


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_a_prompt_may_fill_the_context_but_not_exceed_it(server: Running, model: str) -> None:
    text_model = server.service.models.text[Family(model)]
    context, letter = text_model.manifest.context, "q"  # rare: a token of its own
    assert len(text_model.tokenizer.encode(letter * context)) == context
    fits = server.post("/generate", prompt=letter * context, max_tokens=1, model=model)
    assert fits.json()["usage"] == {
        "prompt_tokens": context,
        "completion_tokens": 1,
        "total_tokens": context + 1,
    }
    for length, unit in (
        (context + 1, "tokens"),
        (context * text_model.longest_token + 1, "characters"),
    ):
        error = server.post("/generate", prompt=letter * length, model=model)
        assert error.status_code == 422
        assert error.json()["error"]["param"] == "prompt"
        message = error.json()["error"]["message"]
        assert message.startswith(f"the prompt has {length} {unit}; {model} reads {context}")


def test_a_model_that_is_not_loaded_is_told_with_what_is_there(models: Models) -> None:
    only = Models({Family.GPT2: models.text[Family.GPT2]}, None)
    with running(only) as server:
        text = server.post("/generate", prompt="a")
        image = server.post("/classify", image="aaaa")
    assert (text.status_code, image.status_code) == (404, 404)
    assert text.json()["error"] == {
        "type": "model_not_loaded",
        "message": "'luminanet' is no text model that is loaded here: this server has gpt2, "
        "gpt2-tinystories",
        "param": "model",
    }


@pytest.mark.parametrize("prompt", ["\0", " ", "日本語", "😀", "<|endoftext|>", "\u202e"])
def test_any_text_is_a_prompt(server: Running, prompt: str) -> None:
    for model in "luminanet", "gpt2":
        response = server.post("/generate", prompt=prompt, max_tokens=2, model=model)
        assert response.status_code == 200


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_log_probabilities_are_answered_when_asked_for(server: Running, model: str) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 10, "seed": 5, "model": model}
    plain = server.post("/generate", **body).json()
    whole = server.post("/generate", **body, logprobs=True).json()
    logs = whole.pop("logprobs")
    assert whole == plain
    assert len(logs) == whole["usage"]["completion_tokens"]
    assert all(log < 0 for log in logs)
    *pieces, last, _ = frames(server.post("/generate", **body, logprobs=True, stream=True))
    assert [log for piece in pieces for log in piece["logprobs"]] == logs
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert "logprobs" not in last


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_min_p_1_is_greedy_and_a_penalty_changes_a_greedy_text(server: Running, model: str) -> None:
    def text(**options: Any) -> str:
        body = {"prompt": PROMPT, "max_tokens": 16, "seed": 5, "model": model, "top_k": 0}
        return str(server.post("/generate", **body, **options).json()["text"])

    assert text(min_p=1, temperature=1) == text(temperature=0) != text(temperature=1)
    assert text(temperature=0, repetition_penalty=10) != text(temperature=0)


# ---------------------------------------------------------------------- under pressure


def test_more_requests_than_the_queue_holds_get_a_429(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow, max_batch=1, queue_limit=1) as server, ThreadPoolExecutor(2) as pool:
        backend.gate.clear()
        runs = pool.submit(server.post, "/generate", prompt="a", max_tokens=1)
        wait_until(lambda: server.metric("requests_running", **LABELS) == 1)
        waits = pool.submit(server.post, "/generate", prompt="a", max_tokens=1)
        wait_until(lambda: server.metric("requests_waiting", **LABELS) == 1)
        refused = server.post("/generate", prompt="a", stream=True)
        assert server.client.get("/health/live").status_code == 200, "busy is not dead"
        assert server.client.get("/health/ready").status_code == 200
        backend.gate.set()
        assert (runs.result().status_code, waits.result().status_code) == (200, 200)
        rejected = server.metric("requests_rejected_total", reason="overloaded", **LABELS)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= LONGEST_RETRY_S
    assert refused.json()["error"]["type"] == "overloaded"
    assert rejected == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_ended_with_an_error(models: Models, stream: bool) -> None:
    with running(models, deadline_seconds=0.05, max_tokens_limit=10**9) as server:
        body = {"prompt": "a", "max_tokens": 10**9, "temperature": 0}
        response = server.post("/generate", **body, stream=stream)
    last = frames(response)[-1] if stream else response.json()
    assert response.status_code == (200 if stream else 504)
    assert last["error"]["type"] == "deadline_exceeded"


def test_a_stream_that_waits_sends_comments_and_then_its_text(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow, heartbeat_seconds=0.01) as server:
        backend.gate.clear()
        body = {"prompt": "a", "max_tokens": 2, "stream": True}
        with server.client.stream("POST", "/generate", json=body) as response:
            lines = (line for line in response.iter_lines() if line)
            assert [next(lines) for _ in range(3)] == [": waiting"] * 3
            backend.gate.set()
            *_, last, done = (line for line in lines if line != ": waiting")
    assert json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"] == 2
    assert done == "data: [DONE]"


def test_a_client_that_leaves_a_stream_is_cancelled_within_a_step(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        body = {"prompt": "a", "max_tokens": 4000, "stream": True, "seed": 1}
        before = backend.runs
        backend.closing_at = before + 2  # or a slow client would see the end of its text
        with server.client.stream("POST", "/generate", json=body) as response:
            next(response.iter_lines())
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **LABELS) == 1)
        assert backend.runs - before == 2
        assert server.metric("requests_running", **LABELS) == 0


def test_a_client_that_leaves_before_its_answer_is_cancelled(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        backend.gate.clear()
        before = backend.runs
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/generate", json={"prompt": "a", "max_tokens": 4000}, timeout=0.2)
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **LABELS) == 1)
        assert backend.runs - before <= 2
        wait_until(lambda: server.metric("requests_total", route="/generate", code="499") == 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_of_the_network_is_an_error_and_not_an_empty_text(
    models: Models, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bad, backend = gated(models)
    with running(bad) as server:
        backend.broken = True
        response = server.post("/generate", prompt="a", stream=stream)
        backend.broken = False
        assert server.post("/generate", prompt="a", max_tokens=2).status_code == 200
    if stream:
        (last,) = frames(response)
    else:
        assert response.status_code == 500
        last = json.loads(response.content)
    assert last["error"]["type"] == "internal_error"
    assert "device" not in last["error"]["message"], "details belong into the log"
    assert "the device is gone" in caplog.text


def test_an_error_in_mid_stream_is_the_last_frame(
    models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    bad, backend = gated(models)
    with running(bad) as server:
        body = {"prompt": "a", "max_tokens": 4000, "stream": True, "temperature": 0}
        with server.client.stream("POST", "/generate", json=body) as response:
            lines = response.iter_lines()
            assert "text" in next(lines)
            backend.broken = True
            *_, last = [line for line in lines if line]
    told = json.loads(last.removeprefix("data: "))
    assert list(told) == ["error", "usage", "model", "seed"]
    assert told["usage"]["completion_tokens"] > 0


# ---------------------------------------------------------------------- beyond the decode graphs


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_a_bias_forces_and_forbids_tokens(server: Running, model: str) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 6, "seed": 5, "model": model}
    (forced,) = server.post("/tokenize", prompt="q", model=model).json()["tokens"]
    plain = server.post("/generate", **body, temperature=0).json()
    assert "q" not in plain["text"]
    assert server.post("/generate", **body, logit_bias={forced: 100}).json()["text"] == "q" * 6
    likely = server.post("/generate", **body, temperature=0, top_logprobs=1).json()
    first = likely["top_logprobs"][0][0]["id"]
    other = server.post("/generate", **body, temperature=0, logit_bias={first: -100}).json()
    assert other["text"] != plain["text"]
    assert server.post("/generate", **body, logit_bias={}, temperature=0).json() == plain


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_the_most_likely_tokens_are_answered_beside_the_logprobs(
    server: Running, model: str
) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 6, "seed": 5, "model": model}
    plain = server.post("/generate", **body, logprobs=True).json()
    whole = server.post("/generate", **body, logprobs=True, top_logprobs=20).json()
    tops = whole.pop("top_logprobs")
    assert whole.pop("logprobs") == pytest.approx(plain.pop("logprobs"), abs=1e-4)
    assert whole == plain
    assert [len(top) for top in tops] == [20] * 6
    for top in tops:
        logs = [token["logprob"] for token in top]
        assert logs == sorted(logs, reverse=True)
        assert len({token["id"] for token in top}) == 20
        assert all(isinstance(token["token"], str) for token in top)
    *pieces, last, _ = frames(server.post("/generate", **body, top_logprobs=20, stream=True))
    assert [top for piece in pieces for top in piece["top_logprobs"]] == tops
    assert "logprobs" not in pieces[0]
    assert last["usage"] == plain["usage"]


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
@pytest.mark.parametrize("max_tokens", [0, 3])
def test_a_prompt_is_scored_and_echoed_whole_and_streamed(
    server: Running, model: str, max_tokens: int
) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": max_tokens, "seed": 5, "model": model}
    asked = {**body, "echo": True, "prompt_logprobs": True, "top_logprobs": 2}
    whole = server.post("/generate", **asked).json()
    count = whole["usage"]["prompt_tokens"]
    logs, tops = whole["prompt_logprobs"], whole["prompt_top_logprobs"]
    assert whole["text"].startswith(PROMPT)
    assert (logs[0], tops[0], len(logs), len(tops)) == (None, None, count, count)
    assert all(log < 0 for log in logs[1:])
    assert all(log <= top[0]["logprob"] for log, top in zip(logs[1:], tops[1:], strict=True))
    assert whole["usage"]["completion_tokens"] == max_tokens == len(whole["top_logprobs"])
    echo, scores, *pieces, last, done = frames(server.post("/generate", **asked, stream=True))
    assert echo == {"text": PROMPT}
    assert scores == {"text": "", "prompt_logprobs": logs, "prompt_top_logprobs": tops}
    assert PROMPT + "".join(piece["text"] for piece in pieces) == whole["text"]
    assert (last["finish_reason"], done) == (whole["finish_reason"], "[DONE]")


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_a_prompt_scores_what_it_scored_when_it_was_drawn(server: Running, model: str) -> None:
    (first,) = server.post("/tokenize", prompt="q", model=model).json()["tokens"]
    greedy: dict[str, Any] = {"temperature": 0, "logprobs": True, "top_logprobs": 1}
    drawn = server.post("/generate", prompt="q", max_tokens=9, model=model, **greedy).json()
    ids = [first, *(top[0]["id"] for top in drawn["top_logprobs"])]
    asked: dict[str, Any] = {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
    (choice,) = server.post("/v1/completions", model=model, **asked).json()["choices"]
    assert choice["logprobs"]["token_logprobs"] == pytest.approx(
        [None, *drawn["logprobs"]], abs=1e-4
    )


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_ignore_eos_and_min_tokens_hold_the_end_off(server: Running, model: str) -> None:
    end = server.service.models.text[Family(model)].manifest.end_id
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 12, "seed": 5, "model": model}
    body["logit_bias"] = {end: 50}

    def told(**options: Any) -> tuple[str, int]:
        answer = server.post("/generate", **body, **options).json()
        return answer["finish_reason"], answer["usage"]["completion_tokens"]

    assert told() == ("stop", 1)
    assert told(min_tokens=4) == ("stop", 5)
    assert told(ignore_eos=True) == ("length", 12)
    stopped = server.post(
        "/generate", prompt="a", seed=1, max_tokens=9, min_tokens=9, stop=["a", " "]
    )
    assert stopped.json()["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", {"100000": 1}),
        ("min_tokens", 129),
        ("top_logprobs", 21),
        ("max_tokens", 0),
    ],
)
def test_what_no_text_can_have_is_refused(server: Running, field: str, value: Any) -> None:
    response = server.post("/generate", prompt="a", **{field: value})
    assert (response.status_code, response.json()["error"]["param"]) == (422, field)
