"""The artifacts are loaded anew while requests run: none is broken, and none is changed."""

import gc
import json
import shutil
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.assembly.describe import Label
from luminanet.artifact.manifest import Family
from serving.api.jobs import texts as texts_asked
from serving.metrics.advantage import Pair, Times
from serving.models.load import load, load_for
from tests.nets import random_weights, tiny_text_topology, tiny_tokenizer, write_artifact
from tests.serving.helpers import TIMEOUT_S, Running, frames, gated, running, wait_until
from tests.serving.test_lifecycle import served

ADMIN, CLIENT = "admin's key", "client's key"
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
TEXT = "luminanet-tinystories"
LABELS = {"model": "luminanet", "backend": "ort_cpu", "task": "text-generation"}
STREAMS = 8
RELOADED_WITHIN_S = 6 * TIMEOUT_S
LONG: dict[str, Any] = {"prompt": "Once upon a", "max_tokens": 40}


def key_file(path: Path, key: str) -> Path:
    path.write_text(f"{sha256(key.encode()).hexdigest()} somebody\n")
    return path


@pytest.fixture
def folder(artifacts: Path, tmp_path: Path) -> Path:
    """Artifacts that a test may change."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text model of LuminaNet, with other weights."""
    path, tokenizer = tmp_path_factory.mktemp("other") / "artifact", tiny_tokenizer()
    net = random_weights(tiny_text_topology(tokenizer.vocab_size), 7)
    write_artifact(path, net, Label(TEXT, tokenizer.to_json()), decode=(4,))
    return path


def put(artifact: Path, folder: Path) -> None:
    shutil.rmtree(folder / TEXT / "artifact")
    shutil.copytree(artifact, folder / TEXT / "artifact")


def settings(folder: Path) -> dict[str, Any]:
    return {
        "artifacts": folder,
        "admin_key_file": key_file(folder.parent / "admins.txt", ADMIN),
        "grace_seconds": TIMEOUT_S,
    }


@pytest.fixture
def changing(folder: Path) -> Iterator[Running]:
    with running(load(folder, 1), **settings(folder)) as server:
        yield server


def reload(server: Running) -> httpx.Response:
    return server.client.post("/admin/reload", headers=AS_ADMIN, timeout=RELOADED_WITHIN_S)


def stream(server: Running, seed: int) -> tuple[str, Any]:
    """Text and last frame of a whole stream."""
    *pieces, last, done = frames(server.post("/generate", **LONG, seed=seed, stream=True))
    assert done == "[DONE]"
    return "".join(piece["text"] for piece in pieces), last


def texts(server: Running) -> list[str]:
    return [stream(server, seed)[0] for seed in range(STREAMS)]


def at_work(server: Running) -> float:
    """Clients' requests that run or wait."""
    return sum(server.metric(f"requests_{does}", **LABELS) for does in ("running", "waiting"))


def test_streams_end_with_the_model_they_began_with_and_new_ones_have_the_new(
    folder: Path, other: Path
) -> None:
    slow, backend = gated(load(folder, 1))
    with running(slow, **settings(folder)) as server, ThreadPoolExecutor(STREAMS) as pool:
        old_texts = texts(server)
        backend.gate.clear()
        begun = [pool.submit(stream, server, seed) for seed in range(STREAMS)]
        wait_until(lambda: at_work(server) == STREAMS)
        put(other, folder)
        assert reload(server).status_code == 200
        new_texts = texts(server)
        assert not any(job.done() for job in begun)
        assert at_work(server) == STREAMS, "those of the old engine and of the new together"
        backend.gate.set()
        ended = [job.result(TIMEOUT_S) for job in begun]
        wait_until(lambda: not server.service._ending)
        assert at_work(server) == 0
    with running(load(folder, 1)) as fresh:
        assert new_texts == texts(fresh)
    assert [text for text, _ in ended] == old_texts
    assert all(old != new for old, new in zip(old_texts, new_texts, strict=True))
    assert {last["finish_reason"] for _, last in ended} <= {"length", "stop"}


def test_under_load_no_answer_is_broken_or_of_two_models(
    changing: Running, folder: Path, artifacts: Path, other: Path
) -> None:
    old_texts = texts(changing)
    put(other, folder)
    assert reload(changing).status_code == 200
    new_texts = texts(changing)
    ready = [changing.client.get("/health/ready").status_code]
    stop = threading.Event()

    def ask(seed: int) -> list[str]:
        found = []
        while not stop.is_set():
            found.append(stream(changing, seed)[0])
        return found

    with ThreadPoolExecutor(STREAMS) as pool:
        asked: list[Future[list[str]]] = [pool.submit(ask, seed) for seed in range(STREAMS)]
        for artifact in (artifacts / TEXT / "artifact", other, artifacts / TEXT / "artifact"):
            put(artifact, folder)
            assert reload(changing).status_code == 200
            ready.append(changing.client.get("/health/ready").status_code)
        stop.set()
        answers = [job.result(TIMEOUT_S) for job in asked]
    for seed, found in enumerate(answers):
        assert found
        assert set(found) <= {old_texts[seed], new_texts[seed]}
    assert set(ready) == {200}
    assert texts(changing) == old_texts


def test_a_request_that_has_looked_for_its_model_is_answered_by_it(
    changing: Running, folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prompts are encoded while the reload is done, and the old engine is idle meanwhile."""
    body = {"prompt": ["Once upon a", "a"], "max_tokens": 20, "seed": 1}
    before = changing.post("/v1/completions", **body).json()["choices"]
    encode, gate, come = texts_asked._token_ids, threading.Event(), threading.Event()

    def wait(*arguments: Any) -> Any:
        come.set()
        assert gate.wait(TIMEOUT_S)
        return encode(*arguments)

    monkeypatch.setattr(texts_asked, "_token_ids", wait)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(changing.post, "/v1/completions", **body)
        assert come.wait(TIMEOUT_S)
        put(other, folder)
        assert reload(changing).status_code == 200
        time.sleep(0.1)  # longer than an old engine needs to see that nothing runs
        gate.set()
        response = answer.result(TIMEOUT_S)
    assert (response.status_code, response.json()["choices"]) == (200, before)
    assert changing.post("/v1/completions", **body).json()["choices"] != before


def test_old_engines_end_and_leave_no_thread_and_no_memory(
    changing: Running, folder: Path, other: Path
) -> None:
    fleet = changing.service._fleet
    threads = [engine._thread for engine in fleet.engines]
    model = weakref.ref(fleet.text[TEXT][1])
    del fleet
    put(other, folder)
    assert reload(changing).status_code == 200
    wait_until(lambda: not changing.service._ending)
    assert not any(thread.is_alive() for thread in threads)
    assert len([t for t in threading.enumerate() if t in threads]) == 0

    def forgotten() -> bool:
        gc.collect()
        return model() is None

    wait_until(forgotten)
    assert changing.client.get("/health/live").status_code == 200


def test_what_is_told_of_models_follows(changing: Running, folder: Path) -> None:
    before = changing.client.get("/page/topologies.json")
    (folder / TEXT).rename(folder / "a-first")
    tokenizer = tiny_tokenizer()
    net = random_weights(tiny_text_topology(tokenizer.vocab_size), 7)
    write_artifact(folder / "beside", net, Label("beside", tokenizer.to_json()), decode=(4,))
    shutil.rmtree(folder / "gpt2-tinystories")
    answer = reload(changing).json()
    names = {(card["model"], card["name"]) for card in answer["models"]}
    assert names == {("luminanet", "luminanet-cifar10"), ("luminanet", TEXT), ("beside", "beside")}
    assert changing.client.get("/models").json() == answer
    assert [card["id"] for card in changing.client.get("/v1/models").json()["data"]] == [
        "luminanet",
        "beside",
    ]
    assert changing.post("/generate", prompt="a", model="gpt2").status_code == 404
    beside, gpt2 = {**LABELS, "model": "beside"}, {**LABELS, "model": "gpt2"}
    assert changing.metric("max_batch", **beside) == 4
    assert changing.metric("sequence_state_bytes", **gpt2) == 0
    after = changing.client.get("/page/topologies.json")
    assert set(after.json()) - set(before.json()) == {"beside"}
    assert after.headers["etag"] != before.headers["etag"]


def damaged(folder: Path) -> None:
    (folder / TEXT / "artifact" / "manifest.json").write_text("{")


def cut(folder: Path) -> None:
    graph = folder / TEXT / "artifact" / "decode.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])


def twice(folder: Path) -> None:
    shutil.copytree(folder / TEXT, folder / "twice")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "manifest.json is damaged"),
        (cut, "decode.onnx"),
        (twice, "are both called"),
        (gone, "is not a folder"),
    ],
)
def test_a_folder_that_cannot_be_loaded_changes_nothing_and_says_why(
    changing: Running,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
    words: str,
) -> None:
    before = texts(changing), changing.client.get("/models").json()
    harm(folder)
    refused = reload(changing)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"]) == (422, "reload_failed")
    assert error["message"].startswith("nothing was loaded, and what was served still is: ")
    assert words in error["message"]
    assert words in caplog.text
    assert (texts(changing), changing.client.get("/models").json()) == before
    assert changing.client.get("/health/ready").status_code == 200


def test_after_a_failure_that_is_mended_a_reload_works(
    changing: Running, folder: Path, other: Path
) -> None:
    before = texts(changing)
    damaged(folder)
    assert reload(changing).status_code == 422
    put(other, folder)
    assert reload(changing).status_code == 200
    assert texts(changing) != before


def test_what_nobody_expected_changes_nothing_either(
    changing: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> Any:
        raise MemoryError("none is left")

    monkeypatch.setattr("serving.service.load_for", fail)
    refused = reload(changing)
    assert refused.status_code == 422
    assert "its log says why" in refused.json()["error"]["message"]
    assert "none is left" in caplog.text
    assert changing.post("/generate", prompt="a", max_tokens=1).status_code == 200


def gated_load(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Loading waits for the second event, and sets the first when it begins."""
    begun, gate = threading.Event(), threading.Event()

    def wait(settings: Any) -> Any:
        begun.set()
        assert gate.wait(TIMEOUT_S)
        return load_for(settings)

    monkeypatch.setattr("serving.service.load_for", wait)
    return begun, gate


def test_one_reload_runs_at_a_time(changing: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = gated_load(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reload, changing)
        assert begun.wait(TIMEOUT_S)
        second = reload(changing)
        assert changing.post("/generate", prompt="a", max_tokens=1).status_code == 200
        gate.set()
        assert first.result(TIMEOUT_S).status_code == 200
    assert (second.status_code, second.json()["error"]["type"]) == (409, "reload_running")
    assert reload(changing).status_code == 200


def test_a_drain_wins_over_a_reload(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = gated_load(monkeypatch)
    with running(load(folder, 1), **settings(folder)) as server, ThreadPoolExecutor(1) as pool:
        before = server.service._fleet
        answer = pool.submit(reload, server)
        assert begun.wait(TIMEOUT_S)
        server.server.handle_exit(signal.SIGTERM, None)
        refused = answer.result(TIMEOUT_S)
        gate.set()
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "shutting_down")
    assert server.service._fleet is before


def test_old_engines_are_drained_with_the_new(folder: Path, other: Path) -> None:
    slow, backend = gated(load(folder, 1))
    with running(slow, **settings(folder)) as server, ThreadPoolExecutor(1) as pool:
        old_text = stream(server, 0)[0]
        backend.gate.clear()
        begun = pool.submit(stream, server, 0)
        wait_until(lambda: server.metric("requests_running", **LABELS) == 1)
        put(other, folder)
        assert reload(server).status_code == 200
        server.server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: server.service.draining)
        backend.gate.set()
        assert begun.result(TIMEOUT_S)[0] == old_text


# ---------------------------------------------------------------------- the shadow


def test_a_shadow_follows_and_forgets_what_it_found_of_other_networks(
    folder: Path, other: Path
) -> None:
    with running(load(folder, 1), shadow=1.0, **settings(folder)) as server:
        shadow = server.service._shadow
        assert shadow
        pair = Pair(Times(1, 1, 1), Times(2, 2, 2))
        for _ in range(30):
            shadow.pairs.add(pair)
        assert reload(server).status_code == 200
        assert len(shadow.pairs.all()) >= 30, "the same networks"
        put(other, folder)
        assert reload(server).status_code == 200
        assert len(shadow.pairs.all()) == 0
        assert shadow.pairs.advantage().samples == 0
        assert [side.engine for side in shadow._sides] == [
            server.service.text(family)[1] for family in (Family.LUMINANET, Family.GPT2)
        ]
        stream(server, 0)
        wait_until(lambda: server.metric("shadow_requests_total", outcome="paired") == 1)
        shutil.rmtree(folder / "gpt2-tinystories")
        refused = reload(server)
        assert refused.status_code == 422
        assert "--shadow compares luminanet and gpt2" in refused.json()["error"]["message"]
        stream(server, 0)
        wait_until(lambda: server.metric("shadow_requests_total", outcome="paired") == 2)


# ---------------------------------------------------------------------- who may


def test_without_a_key_of_admins_there_is_no_such_path(server: Running) -> None:
    assert server.client.post("/admin/reload").status_code == 404
    assert "/admin/reload" not in server.client.get("/openapi.json").json()["paths"]


def test_the_key_of_admins_opens_the_reload_alone_and_no_other_key_does(
    folder: Path, tmp_path: Path
) -> None:
    keys = key_file(tmp_path / "keys.txt", CLIENT)
    with running(load(folder, 1), api_keys_file=keys, **settings(folder)) as server:
        as_client = {"Authorization": f"Bearer {CLIENT}"}
        for method in "GET", "HEAD", "POST", "OPTIONS":
            for headers in ({}, as_client):
                answer = server.client.request(method, "/admin/reload", headers=headers)
                assert answer.status_code == 401
        assert server.client.get("/models", headers=as_client).status_code == 200
        assert server.client.get("/models", headers=AS_ADMIN).status_code == 401
        assert reload(server).status_code == 200
        assert server.client.get("/admin/reload", headers=AS_ADMIN).status_code == 405


def test_where_clients_need_no_key_admins_do(changing: Running) -> None:
    assert changing.client.post("/admin/reload").status_code == 401
    assert changing.client.get("/models").status_code == 200


# ---------------------------------------------------------------------- a real process


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_loads_anew_and_what_is_damaged_is_told_in_the_log(
    folder: Path, other: Path
) -> None:
    with served(f"--artifacts={folder}") as (process, client):
        assert process.stderr

        def logged(words: str) -> str:
            """Waits for a line; a server that does not say it in time is ended, and so fails."""
            late = threading.Timer(RELOADED_WITHIN_S, process.kill)
            late.start()
            try:
                return next(line for line in process.stderr or () if words in line)
            finally:
                late.cancel()

        def text() -> Any:
            return client.post("/generate", json={**LONG, "seed": 1}).json()["text"]

        before = text()
        with client.stream("POST", "/generate", json={**LONG, "seed": 1, "stream": True}) as open_:
            lines = open_.iter_lines()
            first = next(lines)
            put(other, folder)
            process.send_signal(signal.SIGHUP)
            assert TEXT in logged("INFO: luminanet.service: serving ")
            data = [line.removeprefix("data: ") for line in (first, *lines) if line]
        assert "".join(json.loads(frame)["text"] for frame in data[:-2]) == before
        after = text()
        assert after != before
        damaged(folder)
        process.send_signal(signal.SIGHUP)
        assert "manifest.json is damaged" in logged("ERROR: luminanet.service: nothing was loaded")
        assert text() == after
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
