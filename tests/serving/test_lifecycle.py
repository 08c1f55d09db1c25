"""Starting, draining and stopping: in this process, and as a real `python -m serving`."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from luminanet.artifact.manifest import Family
from luminanet.errors import ArtifactError, ConfigError
from serving.__main__ import serve
from serving.app import create_app
from serving.metrics.families import Metrics
from serving.models.load import Models
from serving.server import listen
from serving.service import Service
from serving.settings import Settings
from tests.serving.helpers import (
    TIMEOUT_S,
    Running,
    frames,
    gated,
    gated_prompts,
    running,
    wait_until,
)

ROOT = Path(__file__).parents[2]
WITHOUT_TORCH = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'training', 'export']));"
    "runpy.run_module('serving', run_name='__main__', alter_sys=True)"
)
LONG: dict[str, Any] = {"prompt": "Once", "max_tokens": 4000, "temperature": 0}


@pytest.mark.parametrize("family", [Family.LUMINANET, Family.GPT2])
def test_every_class_of_shapes_is_run_before_the_first_request(
    models: Models, family: Family
) -> None:
    counted, backend = gated(models, family)
    Service(Settings(max_batch=4), counted, Metrics())
    assert backend.runs == 2 * (3 + 1 + 1 + 3) + 1, (
        "all ways to sample at the smallest and largest batch, of few tokens and of all, and a row"
    )


def test_a_prompt_that_fills_the_context_is_run_before_the_first_request(models: Models) -> None:
    counted, backend = gated_prompts(models)
    Service(Settings(max_batch=4), counted, Metrics())
    probes = len(counted.text[Family.GPT2].probes.inputs)
    assert backend.runs == 1 + (probes + 1), "besides those of the self-test"


def test_an_app_that_was_not_started_is_alive_but_not_ready(models: Models) -> None:
    app = create_app(Settings(max_batch=2), models)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            paths = [f"/health{name}" for name in ("/live", "/startup", "/ready", "")]
            return [(await client.get(path)).status_code for path in paths]

    assert asyncio.run(ask()) == [200, 503, 503, 503]


def begin_drain(server: Running) -> None:
    server.server.handle_exit(signal.SIGTERM, None)
    wait_until(lambda: server.client.get("/health/ready").status_code == 503)


def test_a_drain_refuses_new_work_and_lets_streams_end_by_themselves(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow, grace_seconds=TIMEOUT_S) as server, ThreadPoolExecutor(1) as pool:
        backend.gate.clear()
        body = LONG | {"max_tokens": 3, "stream": True}
        stream = pool.submit(server.post, "/generate", **body)
        wait_until(lambda: backend.runs > 0 and not server.service.idle)
        begin_drain(server)
        for model in "luminanet", "gpt2":
            refused = server.post("/generate", prompt="a", model=model)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["type"] == "shutting_down"
        assert server.post("/classify", image="aaaa").status_code == 503
        assert server.client.get("/health/live").status_code == 200
        assert server.client.get("/metrics").status_code == 200
        assert server.metric("ready") == 0
        backend.gate.set()
        *pieces, last, done = frames(stream.result(TIMEOUT_S))
    assert (last["finish_reason"], done) == ("length", "[DONE]")
    assert last["usage"]["completion_tokens"] == 3
    assert pieces


@pytest.mark.parametrize("hurry", [False, True], ids=["grace is over", "second signal"])
def test_what_is_not_done_in_time_is_told_so(models: Models, hurry: bool) -> None:
    slow, backend = gated(models)
    grace_s = 60 if hurry else 0.05
    with running(slow, grace_seconds=grace_s, max_batch=1) as server, ThreadPoolExecutor(2) as pool:
        backend.gate.clear()
        stream = pool.submit(server.post, "/generate", **LONG, stream=True)
        wait_until(lambda: backend.runs > 1)
        whole = pool.submit(server.post, "/generate", **LONG)
        begin_drain(server)
        if hurry:
            server.server.handle_exit(signal.SIGTERM, None)
        backend.gate.set()
        *_, last = frames(stream.result(TIMEOUT_S))
        response = whole.result(TIMEOUT_S)
    assert last["error"] == response.json()["error"], "streamed or not, no text that reads as whole"
    assert last["usage"]["prompt_tokens"] > 0
    assert (response.status_code, response.json()["error"]["type"]) == (503, "shutting_down")


def test_a_dead_engine_makes_the_server_not_live(models: Models) -> None:
    with running(models) as server:
        assert server.client.get("/health/live").status_code == 200
        _, engine = server.service.text("gpt2")
        engine.stop()
        engine.join()
        dead, unready = (server.client.get(f"/health/{p}") for p in ("live", "ready"))
    assert (dead.status_code, unready.status_code) == (503, 503)
    assert "restart the server" in dead.json()["error"]["message"]


def test_requests_of_an_engine_that_dies_are_answered_and_others_go_on(
    models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def die(*_: Any, **__: Any) -> Any:
        raise SystemExit

    with running(models) as server:
        _, engine = server.service.text("luminanet")
        monkeypatch.setattr(engine, "_step", die)
        failed = server.post("/generate", **LONG)
        engine.join()
        refused = server.post("/generate", **LONG)
        other = server.post("/generate", prompt="a", max_tokens=1, model="gpt2")
        live = server.client.get("/health/live")
    assert [r.status_code for r in (failed, refused, other, live)] == [500, 503, 200, 503]
    assert "restart the server" in refused.json()["error"]["message"]


def test_connections_are_refused_until_the_models_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()

    def load(*_: Any) -> Any:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=TIMEOUT_S)
        raise ArtifactError("seen")

    monkeypatch.setattr("serving.models.load.load", load)
    with pytest.raises(ArtifactError, match="seen"):
        serve(Settings(port=address[1]))


# ---------------------------------------------------------------------- real processes


def python(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def outcome(*arguments: str) -> tuple[int, str, str]:
    process = python(*arguments)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@contextmanager
def served(
    *flags: str, json_logs: bool = False
) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client]]:
    """A server process on a free port, without torch."""
    process = python("-c", WITHOUT_TORCH, "--port=0", "--threads=1", *flags)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "ready on " in line:
                said = json.loads(line)["message"] if json_logs else line
                url = said.split("ready on ")[1].strip()
                break
        else:
            pytest.fail("the server ended before it was ready")
        with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def test_a_server_without_torch_serves_and_drains_on_sigterm(artifacts: Path) -> None:
    flags = (f"--artifacts={artifacts}", "--grace-seconds=0.3", "--max-tokens-limit=1000000000")
    with served(*flags) as (process, client):
        assert client.get("/health/ready").status_code == 200
        body = LONG | {"max_tokens": 10**9, "stream": True}
        with client.stream("POST", "/generate", json=body) as response:
            lines = response.iter_lines()
            assert "text" in next(lines)
            process.send_signal(signal.SIGTERM)
            *_, last = (line.removeprefix("data: ") for line in lines if line)
        assert process.wait(TIMEOUT_S) == 0
    assert json.loads(last)["error"]["type"] == "shutting_down"


def test_a_second_sigterm_ends_what_runs_without_a_stack_trace(artifacts: Path) -> None:
    flags = (f"--artifacts={artifacts}", "--max-tokens-limit=1000000000")
    with served(*flags) as (process, client):
        body = LONG | {"max_tokens": 10**9, "stream": True}
        with client.stream("POST", "/generate", json=body) as response:
            lines = response.iter_lines()
            assert "text" in next(lines)
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.2)  # two signals at once are one
            *_, last = (line.removeprefix("data: ") for line in lines if line)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert json.loads(last)["error"]["type"] == "shutting_down"


def test_an_idle_server_exits_at_once_on_sigint(artifacts: Path) -> None:
    with served(f"--artifacts={artifacts}") as (process, client):
        assert client.get("/health/live").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0


def failed(outcome: tuple[int, str, str], words: str) -> None:
    code, out, err = outcome
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, "one line, no stack trace"
    assert words in err


def test_a_server_that_cannot_start_says_why_in_one_line(artifacts: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "manifest.json").write_text("{")
    failed(outcome("-m", "serving", "--port=0", f"--artifacts={bad}"), "manifest.json is damaged")
    failed(outcome("-m", "serving", "--port=x"), "--port")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = f"cannot listen on 127.0.0.1:{port}: Address already in use"
        failed(outcome("-m", "serving", f"--port={port}", f"--artifacts={artifacts}"), words)


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "no.such.host.invalid", "256.1.1.1", "::1::"])
def test_a_host_that_is_none_is_told_as_such(host: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot listen on {re.escape(host)}:0: .*--host"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["::", ""])
def test_every_address_is_of_ipv6_and_ipv4(host: str) -> None:
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        addresses = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
        for address in addresses:
            socket.create_connection((address, port), TIMEOUT_S).close()


def test_a_system_without_dual_stack_gets_ipv4_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("::", 0) as listener:
        assert listener.family == socket.AF_INET
    assert "listening on IPv4 alone" in caplog.text


def test_variables_that_are_uvicorns_set_nothing(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "auto")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with running(models) as server:
        assert server.client.get("/health/live").status_code == 200
        assert server.server.config.workers == 1
        assert "*" not in server.server.config.forwarded_allow_ips


def test_help_names_every_setting_and_loads_nothing_heavy() -> None:
    code, out, err = outcome("-X", "importtime", "-m", "serving", "--help")
    assert code == 0
    for name in ("host", "port", "artifacts", "max-batch", "queue-limit", "grace-seconds"):
        assert f"--{name} " in out
        assert f"LUMINANET_{name.replace('-', '_').upper()}" in out
    loaded = {line.split("|")[-1].strip() for line in err.splitlines()}
    assert "serving.settings" in loaded
    assert not loaded & {"torch", "onnx", "onnxruntime", "fastapi", "numpy", "PIL", "tokenizers"}
