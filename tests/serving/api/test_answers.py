"""Several answers of one request to /generate and /classify: each as it comes alone, and all or
none."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from luminanet.sampling import Sampling
from serving.api.jobs.together import Together
from serving.api.streaming import EventStream, Telling
from serving.engines.detokenize import Transcript
from serving.engines.job import Finish
from serving.engines.text import Generation, Piece
from serving.models.load import Models
from tests.nets import tiny_tokenizer
from tests.serving.api.test_classify import LARGE, PIXELS, GatedReader, png, upload
from tests.serving.helpers import (
    OF_PICTURES,
    OF_TEXTS,
    Running,
    alike,
    all_cancelled,
    crowded,
    frames,
    gated,
    gated_image,
    running,
    wait_until,
)

PROMPTS = ["a b", "Once upon a time"]
CALM: dict[str, Any] = {"max_tokens": 6, "seed": 3}
RICH: dict[str, Any] = {"echo": True, "logprobs": True, "top_logprobs": 2, "prompt_logprobs": True}
FINISHED = "requests_finished_total"
BOTH = pytest.mark.parametrize("model", ["luminanet", "gpt2"])
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def generate(server: Running, **body: Any) -> Any:
    response = server.post("/generate", **body)
    assert response.status_code == 200
    return response.json()


# ---------------------------------------------------------------------- texts


@BOTH
@pytest.mark.parametrize("told", [{}, RICH], ids=["plain", "with all that can be told"])
def test_answer_i_is_what_its_prompt_alone_gets_with_the_seed_plus_i(
    server: Running, model: str, told: dict[str, Any]
) -> None:
    asked = {**CALM, **told, "model": model}
    found = generate(server, prompt=PROMPTS, n=2, **asked)
    each = [prompt for prompt in PROMPTS for _ in range(2)]
    alone = [
        generate(server, **{**asked, "prompt": prompt, "seed": 3 + i})
        for i, prompt in enumerate(each)
    ]
    assert list(found) == ["answers", "usage", "model"]
    assert alike(found["answers"], alone)
    read = sum(one["usage"]["prompt_tokens"] for one in alone[::2])
    written = sum(one["usage"]["completion_tokens"] for one in alone)
    assert found["usage"] == {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def test_one_prompt_is_answered_as_one_and_a_list_of_one_with_a_list(server: Running) -> None:
    alone = server.post("/generate", prompt="a b", **CALM)
    assert server.post("/generate", prompt="a b", n=1, **CALM).content == alone.content
    assert generate(server, prompt=["a b"], **CALM)["answers"] == [alone.json()]
    assert generate(server, prompt="a b", n=2, **CALM)["answers"][0] == alone.json()


@BOTH
@pytest.mark.parametrize("told", [{}, RICH], ids=["plain", "with all that can be told"])
def test_a_stream_of_several_has_the_frames_of_each_with_its_index(
    server: Running, model: str, told: dict[str, Any]
) -> None:
    asked = {**CALM, **told, "model": model}
    whole = generate(server, prompt=PROMPTS, n=2, **asked)
    stream = server.post("/generate", prompt=PROMPTS, n=2, stream=True, **asked)
    *pieces, last, done = frames(stream)
    assert (last, done) == ({"usage": whole["usage"], "model": model}, "[DONE]")
    for index, answer in enumerate(whole["answers"]):
        *own, end = [piece for piece in pieces if piece["index"] == index]
        assert "".join(piece["text"] for piece in own) == answer.pop("text")
        for name in [name for name in answer if name.endswith("logprobs")]:
            assert alike([log for piece in own for log in piece.get(name, ())], answer.pop(name))
        assert end == {"index": index, **answer}


def test_seeds_that_are_chosen_follow_each_other_and_give_the_same_texts_again(
    server: Running,
) -> None:
    first, second = generate(server, prompt="a", n=2, max_tokens=8, temperature=1.5)["answers"]
    assert second["seed"] == first["seed"] + 1 < 2**53
    for answer in first, second:
        again = {"prompt": "a", "max_tokens": 8, "temperature": 1.5, "seed": answer["seed"]}
        assert generate(server, **again) == answer


def test_the_largest_seed_is_followed_by_the_least(server: Running) -> None:
    answers = generate(server, prompt="a", n=2, max_tokens=2, seed=2**63 - 1)["answers"]
    assert [answer["seed"] for answer in answers] == [2**63 - 1, 0]


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"n": 0}, 422, "n", "greater than or equal to 1"),
        ({"n": 129}, 422, "n", "asks for 129 texts; this server allows 128"),
        ({"n": 10**9}, 422, "n", "lower n, or send several requests"),
        ({"n": 2**63}, 422, "n", "less than or equal to"),
        ({"n": True}, 422, "n", "valid integer"),
        ({"prompt": []}, 422, "prompt", "a text or a list of texts"),
        ({"prompt": ["a", ""]}, 422, "prompt", "none of them empty"),
        ({"prompt": ["a", 5]}, 422, "prompt", "a text or a list of texts"),
        ({"prompt": [[1]]}, 422, "prompt", "a text or a list of texts"),
        ({"prompt": ["a", "a b " * 400]}, 422, "prompt[1]", "prompt[1]: the prompt has"),
        ({"prompt": ["a"] * 65, "n": 2}, 422, "n", "asks for 130 texts"),
        ({"prompt": ["a"] * 10**6}, 413, None, "send a smaller one"),
        ({"n": 8, "max_tokens": 4096}, 422, "max_tokens", "are 32768; this server allows 16384"),
    ],
)
@STREAM
def test_what_no_request_may_ask_for_is_refused(
    server: Running, body: dict[str, Any], status: int, param: str | None, words: str, stream: bool
) -> None:
    response = server.post("/generate", **{"prompt": "a", **body}, stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert words in error["message"]


@STREAM
def test_texts_get_places_for_all_or_for_none(models: Models, stream: bool) -> None:
    with crowded(models) as server:
        refused = server.post("/generate", prompt=["a", "b"], stream=stream)
        assert server.metric("requests_rejected_total", reason="overloaded", **OF_TEXTS) == 1
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "overloaded")
    assert "retry-after" in refused.headers


@pytest.mark.parametrize("body", [{"prompt": "a", "n": 8}, {"prompt": ["a"] * 4, "n": 2}])
def test_a_client_that_leaves_frees_all_its_rows_within_one_call(
    models: Models, body: dict[str, Any]
) -> None:
    slow, backend = gated(models)
    with running(slow, max_batch=8) as server:
        before = backend.runs
        backend.closing_at = before + 2
        asked = {**body, "max_tokens": 2000, "seed": 1, "stream": True}
        with server.client.stream("POST", "/generate", json=asked) as response:
            next(response.iter_lines())
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **OF_TEXTS) == 8)
        assert backend.runs - before == 2
        assert server.metric("requests_running", **OF_TEXTS) == 0


def test_a_client_that_leaves_before_its_answers_frees_all_its_rows(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        backend.gate.clear()
        asked = {"prompt": "a", "n": 8, "max_tokens": 2000}
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/generate", json=asked, timeout=0.2)
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **OF_TEXTS) == 8)


@STREAM
def test_a_deadline_ends_all_texts_with_one_error(models: Models, stream: bool) -> None:
    with running(models, deadline_seconds=0.05, max_tokens_limit=10**9) as server:
        asked = {"prompt": "a", "n": 3, "max_tokens": 10**9, "temperature": 0, "stream": stream}
        response = server.post("/generate", **asked)
        wait_until(lambda: server.service.idle)
        ended = sum(
            server.metric(FINISHED, finish_reason=reason, **OF_TEXTS)
            for reason in ("deadline", "cancelled")
        )
    last = frames(response)[-1] if stream else response.json()
    assert response.status_code == (200 if stream else 504)
    assert last["error"]["type"] == "deadline_exceeded"
    assert list(last) == (["error", "usage", "model"] if stream else ["error"])
    assert ended == 3


@STREAM
def test_a_failure_of_the_network_is_one_error(
    models: Models, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bad, backend = gated(models)
    with running(bad) as server:
        backend.broken = True
        response = server.post("/generate", prompt="a", n=3, stream=stream)
    (last,) = frames(response) if stream else [response.json()]
    assert last["error"]["type"] == "internal_error"
    assert "the device is gone" in caplog.text


@pytest.mark.parametrize("count", [1, 3])
def test_what_comes_with_a_failure_is_told_before_it_and_nothing_after_it(count: int) -> None:
    tokenizer = tiny_tokenizer()
    jobs = [
        Generation([1], Transcript(tokenizer.stream(), ()), Sampling(seed=i), 5, 0.0)
        for i in range(count)
    ]
    together = Together(jobs)
    stream = EventStream(together, Telling(tokenizer), "gpt2", [""], count > 1)
    for job in jobs:
        job.outbox.put(Piece("a"))
        job.outbox.put(Piece("", Finish.DEADLINE))
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(stream({}, receive, send))
    bodies = [message for message in sent if message["type"] == "http.response.body"]
    assert [body["more_body"] for body in bodies] == [True, False]
    first, last = (json.loads(body["body"].removeprefix(b"data: ")) for body in bodies)
    assert first["text"] == "a"
    assert last["error"]["type"] == "deadline_exceeded"
    assert all(job.cancelled for job in jobs)


def test_a_stream_of_several_that_wait_sends_comments(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow, heartbeat_seconds=0.01) as server:
        backend.gate.clear()
        body = {"prompt": "a", "n": 2, "max_tokens": 2, "stream": True}
        with server.client.stream("POST", "/generate", json=body) as response:
            lines = (line for line in response.iter_lines() if line)
            assert [next(lines) for _ in range(3)] == [": waiting"] * 3
            backend.gate.set()
            assert list(lines)[-1] == "data: [DONE]"


# ---------------------------------------------------------------------- pictures

LEVELS = np.stack([PIXELS, 255 - PIXELS, PIXELS[::-1]])
FILES = [png(Image.fromarray(levels)) for levels in LEVELS]


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def in_form(server: Running, *files: bytes, **fields: str) -> httpx.Response:
    parts = [("file", (f"{number}.png", data)) for number, data in enumerate(files)]
    return server.client.post("/classify", files=parts, data=fields)


def in_json(server: Running, *files: bytes, **fields: Any) -> httpx.Response:
    return server.post("/classify", image=[base64.b64encode(f).decode() for f in files], **fields)


def as_body(server: Running, data: bytes, query: str = "", kind: str = "x-npy") -> httpx.Response:
    headers = {"content-type": f"application/{kind}"}
    return server.client.post(f"/classify{query}", content=data, headers=headers)


def alone(server: Running) -> list[Any]:
    return [upload(server, file).json() for file in FILES]


@pytest.mark.parametrize(
    "send",
    [
        lambda server: in_form(server, *FILES),
        lambda server: in_json(server, *FILES),
        lambda server: in_form(server, FILES[0], npy(LEVELS[1:])),
        lambda server: in_form(server, npy(LEVELS)),
        lambda server: in_json(server, npy(LEVELS[:2]), FILES[2]),
        lambda server: as_body(server, npy(LEVELS)),
        lambda server: as_body(server, npy(np.asfortranarray(LEVELS)), kind="octet-stream"),
    ],
    ids=["form", "json", "file and array", "array in form", "array in json", "npy", "fortran"],
)
def test_pictures_of_one_request_get_the_answers_they_get_alone(
    server: Running, send: Callable[[Running], httpx.Response]
) -> None:
    response = send(server)
    assert response.status_code == 200
    assert alike(response.json(), {"answers": alone(server), "model": "luminanet"})


def test_one_picture_is_answered_as_one_and_a_list_of_one_with_a_list(server: Running) -> None:
    (one, *_) = alone(server)
    for single in (
        as_body(server, npy(LEVELS[0])),
        in_form(server, npy(LEVELS[0])),
        server.post("/classify", image=base64.b64encode(npy(LEVELS[0])).decode()),
    ):
        assert single.json() == one
    for listed in in_json(server, FILES[0]), as_body(server, npy(LEVELS[:1])):
        assert listed.json()["answers"] == [one]


def test_the_fields_of_an_array_stand_in_the_query(server: Running) -> None:
    answer = as_body(server, npy(LEVELS[0]), "?top_k=2&model=luminanet-cifar10").json()
    assert (len(answer["top_k"]), answer["model"]) == (2, "luminanet-cifar10")
    for query, param in (
        ("?top_k=0", "top_k"),
        ("?top_k=99", "top_k"),
        (f"?top_k={'1' * 5000}", "top_k"),
        ("?colour=red", "colour"),
    ):
        refused = as_body(server, npy(LEVELS[0]), query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)
    assert as_body(server, npy(LEVELS[0]), "?model=nobody").status_code == 404


def test_fields_count_for_all_pictures(server: Running) -> None:
    for response in in_form(server, *FILES, top_k="2"), in_json(server, *FILES, top_k=2):
        assert [len(answer["top_k"]) for answer in response.json()["answers"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("send", "param"),
    [
        (lambda server: in_form(server, FILES[0], b"no picture", FILES[1]), "file[1]"),
        (lambda server: in_form(server, FILES[0], FILES[1], b""), "file[2]"),
        (lambda server: in_form(server, npy(LEVELS), npy(LEVELS / 255)), "file[1]"),
        (lambda server: in_form(server, npy(LEVELS), b"no picture"), "file[1]"),
        (lambda server: in_json(server, FILES[0], b"no picture"), "image[1]"),
        (lambda server: server.post("/classify", image=["aaaa", "%"]), "image[1]"),
        (lambda server: server.post("/classify", image=[]), "image"),
        (lambda server: server.post("/classify", image=["aaaa", 5]), "image"),
        (lambda server: server.post("/classify", image=["aaaa", ""]), "image"),
        (lambda server: as_body(server, npy(LEVELS / 255)), None),
        (lambda server: as_body(server, FILES[0]), None),
        (lambda server: as_body(server, b""), None),
    ],
)
def test_the_picture_that_is_refused_is_named(
    server: Running, send: Callable[[Running], httpx.Response], param: str | None
) -> None:
    response = send(server)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (422, param)
    assert not param or error["message"].startswith(f"{param}: ")


def test_more_pictures_than_could_wait_are_refused(models: Models) -> None:
    with running(models, queue_limit=2) as server:
        for response in (
            in_form(server, *FILES),
            in_json(server, *FILES),
            as_body(server, npy(LEVELS)),
            in_form(server, FILES[0], npy(LEVELS[:2])),
        ):
            assert response.status_code == 422
            assert "2" in response.json()["error"]["message"]
        assert in_form(server, *FILES[:2]).status_code == 200
        many = server.post("/classify", image=["aaaa"] * 100)
        assert (many.status_code, many.json()["error"]["param"]) == (422, None)
        assert server.metric("requests_rejected_total", reason="overloaded", **OF_PICTURES) == 0


def test_the_pixels_of_all_pictures_are_counted(models: Models) -> None:
    with running(models, queue_pixels=3000) as server:
        assert in_form(server, *FILES[:2]).status_code == 200
        refused = in_form(server, *FILES)
        assert refused.status_code == 422
        assert "3072 pixels together" in refused.json()["error"]["message"]
        assert upload(server, png(Image.new("L", (99, 99)))).status_code == 200, "alone, always"


def test_pictures_get_places_for_all_or_for_none(models: Models) -> None:
    with crowded(models, OF_PICTURES) as server:
        refused = in_form(server, *FILES[:2])
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "overloaded")


def test_each_picture_is_counted_once_and_the_request_once(models: Models) -> None:
    with running(models) as server:
        in_form(server, *FILES)
        assert server.metric(FINISHED, finish_reason="done", **OF_PICTURES) == 3
        assert server.metric("batch_size_sum", **OF_PICTURES) == 3
        counted = {"route": "/classify", "code": "200"}
        wait_until(lambda: server.metric("requests_total", **counted) == 1)


def test_a_client_that_leaves_takes_all_its_pictures_along(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, backend = gated_image(models)
    reader = GatedReader(monkeypatch, LARGE)
    with running(slow) as server:
        backend.gate.clear()
        parts = [("file", ("x.png", data)) for data in (*FILES, LARGE)]
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/classify", files=parts, timeout=0.5)
        wait_until(lambda: not server.server.server_state.connections)
        reader.gate.set()
        backend.gate.set()
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **OF_PICTURES) >= 1)
        wait_until(lambda: server.service.idle)
        ended = server.metric(FINISHED, finish_reason="cancelled", **OF_PICTURES)
        assert ended + server.metric(FINISHED, finish_reason="done", **OF_PICTURES) == 4
