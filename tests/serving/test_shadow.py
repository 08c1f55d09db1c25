"""Shadow traffic over a real server: fair pairs, clients first, and counted nowhere else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from luminanet.artifact.manifest import Family
from luminanet.errors import ConfigError
from serving import shadow as module
from serving.app import create_app
from serving.metrics.advantage import Pair
from serving.models.load import Models
from serving.settings import Settings
from serving.shadow import Asked, Outcome
from tests.serving.helpers import TIMEOUT_S, Running, all_cancelled, gated, running, wait_until

LENGTH = 14
Body = dict[str, Any]


@pytest.fixture(scope="module")
def body(server: Running) -> Body:
    """A request whose text does not end before LENGTH tokens."""
    for seed in range(100):
        asked = {"prompt": "Once upon", "max_tokens": LENGTH, "seed": seed}
        usage = server.post("/generate", **asked).json()["usage"]
        if usage["completion_tokens"] == LENGTH:
            return asked
    raise AssertionError("all texts end early")


def counted(server: Running, outcome: Outcome) -> float:
    return server.metric("shadow_requests_total", outcome=outcome.value)


def all_counted(server: Running) -> float:
    return sum(counted(server, outcome) for outcome in Outcome)


@contextmanager
def shadowed(models: Models, **settings: Any) -> Iterator[tuple[Running, list[Asked]]]:
    """A server that replays every request, and what it replays."""
    with running(models, shadow=1.0, **settings) as server:
        shadow = server.service._shadow
        assert shadow
        asked: list[Asked] = []
        pair = shadow._pair

        async def noted(one: Asked) -> Pair:
            asked.append(one)
            return await pair(one)

        shadow._pair = noted  # type: ignore[method-assign, assignment]
        yield server, asked


def test_a_request_is_computed_again_by_both_models(models: Models, body: Body) -> None:
    with shadowed(models) as (server, asked):
        server.post("/generate", **body, temperature=0.5, top_k=7)
        wait_until(lambda: counted(server, Outcome.PAIRED) == 1)
        (pair,) = server.service._shadow.pairs.all()  # type: ignore[union-attr]
    assert [(one.prompt, one.tokens, one.company) for one in asked] == [("Once upon", LENGTH, 1)]
    how = asked[0].sampling
    assert (how.seed, how.temperature, how.top_k) == (body["seed"], 0.5, 7)
    assert pair.luminanet != pair.baseline
    for times in pair:
        assert all(value > 0 for value in times)
        assert times.time_to_first_token < times.request_duration


def test_replays_are_counted_nowhere_else(models: Models, body: Body) -> None:
    with shadowed(models) as (server, _):
        usage = server.post("/generate", **body).json()["usage"]
        wait_until(lambda: counted(server, Outcome.PAIRED) == 1)
        assert server.metric("requests_total", route="/generate", code="200") == 1
        for model, share in (Family.LUMINANET, 1), (Family.GPT2, 0):
            labels = {"model": model.value, "backend": "ort_cpu", "task": "text-generation"}
            calls = 1 - (1 - LENGTH) // server.service.settings.steps  # the first for one token
            for name, more, value in [
                ("requests_finished_total", {"finish_reason": "length"}, 1),
                ("requests_rejected_total", {"reason": "overloaded"}, 0),
                ("prompt_tokens_total", {}, usage["prompt_tokens"]),
                ("generation_tokens_total", {}, LENGTH),
                ("request_queue_seconds_count", {}, 1),
                ("time_to_first_token_seconds_count", {}, 1),
                ("inter_token_latency_seconds_count", {}, LENGTH - 1),
                ("time_per_output_token_seconds_count", {}, 1),
                ("inference_duration_seconds_count", {"phase": "decode"}, calls),
                ("inference_duration_seconds_count", {"phase": "prefill"}, 0),
                ("batch_size_count", {}, calls),
                ("requests_running", {}, 0),
                ("requests_waiting", {}, 0),
            ]:
                assert server.metric(name, **labels, **more) == share * value, (model, name)


def test_who_is_first_alternates(models: Models, body: Body) -> None:
    first: list[str] = []
    with shadowed(models) as (server, _):
        shadow = server.service._shadow
        assert shadow
        replay, new = shadow._replay, [True]

        async def noted(side: module.Side, asked: Asked) -> Any:
            if new[0]:
                first.append(side.engine.name)
            new[0] = not new[0]
            return await replay(side, asked)

        shadow._replay = noted  # type: ignore[method-assign]
        for count in range(1, 5):
            server.post("/generate", **body)
            wait_until(lambda count=count: counted(server, Outcome.PAIRED) == count)  # type: ignore[misc]
    assert first in (["gpt2", "luminanet"] * 2, ["luminanet", "gpt2"] * 2)


def test_both_sides_have_the_company_that_the_client_had(models: Models, body: Body) -> None:
    slow, backend = gated(models)
    with shadowed(slow, max_batch=4) as (server, asked), ThreadPoolExecutor(3) as pool:
        backend.gate.clear()
        answers = [pool.submit(server.post, "/generate", **body)]
        wait_until(lambda: not server.service.idle)
        answers += [pool.submit(server.post, "/generate", **body) for _ in range(2)]
        engine = server.service.text("luminanet")[1]
        wait_until(lambda: len(engine._waiting) + len(engine._running) == 3)
        backend.gate.set()
        assert all(answer.result(TIMEOUT_S).status_code == 200 for answer in answers)
        wait_until(lambda: all_counted(server) == 3)
        # On a busy machine some may have run in other company, and are no pairs then.
        assert counted(server, Outcome.PAIRED) + counted(server, Outcome.FAILED) == 3
    assert max(one.company for one in asked) >= 2


def test_a_client_that_comes_ends_a_replay_which_is_tried_again(models: Models, body: Body) -> None:
    slow, backend = gated(models, Family.GPT2)
    with shadowed(slow) as (server, asked):
        backend.gate.clear()
        warm = backend.runs
        server.post("/generate", **body)
        wait_until(lambda: backend.runs > warm)
        assert server.post("/generate", **body).status_code == 200, "waits for no replay"
        assert all_cancelled(server, Family.GPT2)
        assert all_counted(server) == 0
        backend.gate.set()
        wait_until(lambda: counted(server, Outcome.PAIRED) == 2)
    assert len(asked) == 3, "the first was begun twice"


def test_nothing_is_replayed_while_a_client_is_served(models: Models, body: Body) -> None:
    slow, backend = gated(models, Family.GPT2)
    with shadowed(slow) as (server, asked), ThreadPoolExecutor(1) as pool:
        backend.gate.clear()
        other = pool.submit(server.post, "/generate", **body, model="gpt2")
        wait_until(lambda: not server.service.idle)
        server.post("/generate", **body)
        shadow = server.service._shadow
        assert shadow
        wait_until(lambda: len(shadow._pending) == 1)
        polled: list[bool] = []
        quiet = shadow._quiet
        shadow._quiet = lambda: polled.append(quiet()) or polled[-1]  # type: ignore[func-returns-value, method-assign]
        wait_until(lambda: len(polled) > 20)
        assert not any(polled)
        assert not asked
        backend.gate.set()
        assert other.result(TIMEOUT_S).status_code == 200
        wait_until(lambda: counted(server, Outcome.PAIRED) == 1)


def test_a_request_that_waits_too_long_for_a_gap_is_left(
    models: Models, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    with shadowed(models) as (server, asked):
        server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.SKIPPED_BUSY) == 1)
    assert not asked


def test_a_request_in_much_company_is_left(
    models: Models, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_COMPANY", 0)
    with shadowed(models) as (server, asked):
        server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.SKIPPED_BUSY) == 1)
    assert not asked


def test_more_than_may_wait_are_left(
    models: Models, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 1)
    monkeypatch.setattr(module, "QUIET_S", 3600.0)
    with shadowed(models) as (server, _):
        for _ in range(3):
            server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.SKIPPED_OVERLOADED) == 2)
        assert all_counted(server) == 2


def test_a_replay_that_takes_too_long_is_ended(
    models: Models, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.05)
    slow, backend = gated(models, Family.GPT2)
    with shadowed(slow) as (server, _):
        backend.gate.clear()
        server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.TIMED_OUT) == 1)
        assert all_cancelled(server, Family.GPT2)
        backend.gate.set()
        wait_until(lambda: server.service.idle)


def test_a_baseline_that_fails_harms_no_client(models: Models, body: Body) -> None:
    broken, backend = gated(models, Family.GPT2)
    with shadowed(broken) as (server, _):
        backend.broken = True
        server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.FAILED) == 1)
        backend.broken = False
        server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.PAIRED) == 1)


def test_only_texts_of_luminanet_with_a_pace_are_replayed(models: Models, body: Body) -> None:
    with shadowed(models) as (server, asked):
        server.post("/generate", **body, model="gpt2")
        server.post("/generate", **(body | {"max_tokens": 2}))
        server.post("/generate", **body)
        wait_until(lambda: counted(server, Outcome.PAIRED) == 1)
        assert all_counted(server) == 1
    assert len(asked) == 1


def test_a_share_of_all_requests_is_chosen(models: Models) -> None:
    settings = Settings(max_batch=2, threads=1, shadow=0.25)
    shadow = create_app(settings, models).state.service._shadow
    chosen = sum(shadow._chance.random() < shadow._share for _ in range(4000))
    assert 0.2 < chosen / 4000 < 0.3


def test_without_shadows_nothing_is_said_of_them(server: Running) -> None:
    text = server.client.get("/metrics").text
    assert "luminanet_advantage_ratio" not in text
    assert "luminanet_shadow_requests_total{" not in text


def test_a_server_without_a_baseline_says_what_is_missing(models: Models) -> None:
    alone = replace(models, text={Family.LUMINANET: models.text[Family.LUMINANET]})
    settings = Settings(max_batch=2, threads=1, shadow=0.5)
    with pytest.raises(ConfigError, match=r"no text model gpt2 is under .*--shadow 0"):
        create_app(settings, alone)
