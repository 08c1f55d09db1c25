"""Log lines as JSON: what they have, and what they never have."""

import base64
import io
import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from serving import logs
from serving.models.load import Models
from tests.serving.helpers import TIMEOUT_S, Running, gated, running, wait_until
from tests.serving.test_lifecycle import outcome, served

SECRET = "zebra-4711"
KEY = f"key-{SECRET}"


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What a server of this process logs as JSON, down to debug."""
    text = io.StringIO()
    handler = logs.handler("json", text)
    logging.getLogger().addHandler(handler)
    for name in logs.OURS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        logging.getLogger().removeHandler(handler)
        for name in logs.OURS:
            logging.getLogger(name).setLevel(logging.NOTSET)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def accesses(text: io.StringIO) -> list[dict[str, Any]]:
    return [line for line in lines(text.getvalue()) if line["logger"] == "luminanet.access"]


def test_a_request_is_one_object_of_known_fields(server: Running) -> None:
    before = datetime.now(UTC)
    with logged() as text:
        headers = {"X-Request-ID": "mine"}
        server.client.post("/generate", json={"prompt": "a", "max_tokens": 2}, headers=headers)
        server.client.get("/v1/models/nobody")
        server.client.get("/nowhere")
        wait_until(lambda: len(accesses(text)) == 3)  # a line is written after the answer
    first, second, third = accesses(text)
    assert list(first) == [
        *("level", "logger", "message", "method", "route", "status", "duration_s"),
        *("request_id", "time"),
    ]
    assert first["message"] == "POST /generate 200"
    assert (first["method"], first["route"], first["status"]) == ("POST", "/generate", 200)
    assert (first["level"], first["request_id"]) == ("DEBUG", "mine")
    at = datetime.fromisoformat(first["time"])
    assert at.utcoffset() == timedelta(0)
    assert before <= at <= datetime.now(UTC)
    assert 0 < first["duration_s"] < TIMEOUT_S
    assert (second["route"], second["status"]) == ("/v1/models/{model}", 404)
    assert (third["route"], third["status"]) == ("other", 404)
    assert second["request_id"] != third["request_id"]


def test_a_failure_has_its_traceback_and_the_id_of_its_request(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the handler")

    with logged() as text, running(models) as server:
        headers = {"X-Request-ID": "mine"}
        monkeypatch.setattr(server.service, "text", fail)
        answer = server.client.post("/generate", json={"prompt": "a"}, headers=headers)
    assert answer.status_code == 500
    (failed,) = [line for line in lines(text.getvalue()) if line["level"] == "ERROR"]
    assert failed["logger"] == "uvicorn.error", "uvicorn's own lines have the same form"
    assert failed["request_id"] == "mine"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("RuntimeError: in the handler")
    assert "color_message" not in text.getvalue()


def test_what_an_engine_could_not_compute_is_logged_with_the_id_of_its_request(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(models) as server, logged() as text:
        engine = server.service.text("luminanet")[1]
        monkeypatch.setattr(engine, "_read", None)
        headers = {"X-Request-ID": "mine"}
        server.client.post("/generate", json={"prompt": "a"}, headers=headers)
    (failed,) = [line for line in lines(text.getvalue()) if line["level"] == "ERROR"]
    assert (failed["logger"], failed["request_id"]) == ("luminanet.engine", "mine")
    assert "TypeError" in failed["exception"]


def test_no_prompt_body_query_or_key_is_ever_logged(
    models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Good requests, bad ones and those that fail inside, each with a secret in all its parts."""
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{sha256(KEY.encode()).hexdigest()} somebody\n")
    picture = base64.b64encode(SECRET.encode()).decode()
    unsound, backend = gated(models)
    bodies: list[tuple[str, Any]] = [
        ("/generate", {"prompt": SECRET, "max_tokens": 2, "stop": [SECRET]}),
        ("/generate", {"prompt": SECRET, "max_tokens": 2, "stream": True}),
        ("/generate", {"prompt": SECRET, SECRET: 1}),
        ("/generate", {"prompt": 1, "seed": SECRET}),
        ("/generate", {"prompt": SECRET, "model": SECRET}),
        ("/generate", {"prompt": SECRET * 5000}),
        ("/v1/completions", {"prompt": [SECRET, SECRET], "max_tokens": 1, "user": SECRET}),
        ("/v1/completions", {"prompt": SECRET, "best_of": SECRET}),
        ("/tokenize", {"prompt": SECRET, "return_token_strs": True}),
        ("/detokenize", {"tokens": [SECRET]}),
        ("/classify", {"image": picture}),
        ("/classify", {"image": SECRET}),
    ]
    with (
        logged() as text,
        running(unsound, api_keys_file=keys, cors_origins="*") as server,
    ):
        for given in KEY, f"wrong-{KEY}":
            headers = {"Authorization": f"Bearer {given}", "Origin": f"https://{SECRET}.example"}
            for path, body in bodies:
                server.client.post(path, json=body, headers=headers, params={SECRET: SECRET})
                backend.broken = given == KEY and path == "/generate"
                server.client.post(path, json=body, headers=headers)
                backend.broken = False
            for path in (f"/{SECRET}", f"/v1/models/{SECRET}", f"/models?{SECRET}"):
                server.client.get(path, headers=headers)
            for content in (SECRET, f'{{"{SECRET}'):
                kind = {"content-type": "application/json", **headers}
                server.client.post("/generate", content=content, headers=kind)
            file = {"file": (SECRET, SECRET.encode(), "image/png")}
            server.client.post("/classify", files=file, headers=headers)
            server.client.post("/classify", files={SECRET: file["file"]}, headers=headers)
        monkeypatch.setattr(server.service, "submit", None)
        headers = {"Authorization": f"Bearer {KEY}"}
        for path, body in bodies:
            server.client.post(path, json=body, headers=headers)
    said = text.getvalue()
    statuses = {line["status"] for line in accesses(text)}
    assert {200, 400, 401, 404, 422, 500} <= statuses
    assert "the device is gone" in said
    for secret in (SECRET, KEY, picture, sha256(KEY.encode()).hexdigest()):
        assert secret not in said


def test_a_server_logs_json_alone_with_the_lines_of_uvicorn(artifacts: Path) -> None:
    flags = (f"--artifacts={artifacts}", "--log-format=json", "--log-level=debug")
    with served(*flags, json_logs=True) as (process, client):
        client.get("/health/live")
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        rest = lines(process.stderr.read())
        assert process.wait(TIMEOUT_S) == 0
    assert {line["logger"] for line in rest} >= {"luminanet.access", "uvicorn.error"}
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in rest)


def test_a_server_that_cannot_start_says_why_in_json_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    flags = ("--port=0", f"--artifacts={tmp_path}", "--log-format=json")
    code, _, err = outcome("-m", "serving", *flags)
    (line,) = lines(err)
    assert (code, line["level"]) == (2, "CRITICAL")
    assert "there is no artifact under" in line["message"]


def test_debug_shows_requests_in_text_too_and_nothing_that_others_say_for_their_bugs(
    artifacts: Path,
) -> None:
    with served(f"--artifacts={artifacts}", "--log-level=debug") as (process, client):
        files = {"file": ("a.png", b"no picture", "image/png")}
        assert client.post("/classify", files=files).status_code == 422
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        said = process.stderr.read().splitlines()
    assert "DEBUG: luminanet.access: POST /classify 422" in said
    assert not [line for line in said if "python_multipart" in line]
