"""POST /classify over a real socket, as a form and as JSON."""

import base64
import io
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from export.assembly.describe import Label
from luminanet.artifact.manifest import Served
from luminanet.reference import forward
from luminanet.topology import Topology
from serving.engines.engine import LONGEST_RETRY_S
from serving.engines.images import Pixels
from serving.models.load import Models, load
from serving.pictures.pixels import read_image
from tests.nets import LABELS as CLASSES
from tests.nets import random_weights, tiny_image_topology, write_artifact
from tests.serving.helpers import TIMEOUT_S, Running, gated_image, running, wait_until
from tests.serving.pictures.test_pixels import png_that_claims
from training.topologies import scales_dense_image

PIXELS = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)


def png(image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(server: Running, data: bytes, **fields: str) -> httpx.Response:
    return server.client.post("/classify", files={"file": ("x.png", data)}, data=fields)


def test_the_answer_agrees_with_the_numpy_reference(server: Running) -> None:
    answer = upload(server, png()).json()
    net = random_weights(tiny_image_topology())
    logits = forward(net, PIXELS.transpose(2, 0, 1)[None] / 255)[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    model = server.service.models.image
    assert model is not None
    assert list(answer["probabilities"]) == list(model.manifest.labels)
    np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)
    assert answer["index"] == expected.argmax()
    assert answer["label"] == model.manifest.labels[answer["index"]]
    assert answer["model"] == "luminanet"


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("int8", 0.1)])
def test_a_network_that_sees_means_of_pixels_is_served_as_the_reference_has_it(
    tmp_path: Path, precision: Served, close: float
) -> None:
    net = random_weights(scales_dense_image(48, 16, 0))
    assert net.topology.scales == (1, 2, 4)
    label = Label("luminanet-cifar10", classes=CLASSES)
    write_artifact(tmp_path / "artifact", net, label, "int8")
    assert Topology.from_json((tmp_path / "artifact/topology.json").read_text()) == net.topology
    logits = forward(net, PIXELS.transpose(2, 0, 1)[None] / 255)[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    with running(load(tmp_path, threads=1, precision=precision)) as server:
        answer = upload(server, png()).json()
    np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=close)


def test_the_best_classes_are_listed_best_first(server: Running) -> None:
    answer = upload(server, png(), top_k="3").json()
    probabilities = [entry["probability"] for entry in answer["top_k"]]
    assert probabilities == sorted(answer["probabilities"].values(), reverse=True)[:3]
    assert all(answer["probabilities"][e["label"]] == e["probability"] for e in answer["top_k"])
    assert answer["top_k"][0]["label"] == answer["label"]


def test_json_and_form_give_the_same_answer(server: Running) -> None:
    encoded = base64.b64encode(png()).decode()
    as_json = server.post("/classify", image=encoded, top_k=5)
    assert as_json.status_code == 200
    assert as_json.json() == upload(server, png()).json()


def test_many_pictures_at_once_get_the_answers_they_get_alone(server: Running) -> None:
    pictures = [png(Image.new("RGB", (n + 1, 40), (n * 20, 100, 0))) for n in range(12)]
    bad = b"no picture"

    def answer(data: bytes) -> Any:
        response = upload(server, data)
        return response.json()["label"] if response.status_code == 200 else response.status_code

    alone = [answer(data) for data in [*pictures, bad]]
    with ThreadPoolExecutor(13) as pool:
        assert list(pool.map(answer, [*pictures, bad])) == alone
    assert alone[-1] == 422


LABELS = {"model": "luminanet", "backend": "ort_cpu", "task": "image-classification"}
FINISHED = "requests_finished_total"


def test_pictures_that_wait_are_computed_together_without_those_whose_client_left(
    models: Models,
) -> None:
    slow, backend = gated_image(models)
    with running(slow, max_batch=4) as server, ThreadPoolExecutor(3) as pool:
        backend.gate.clear()
        first = pool.submit(upload, server, png())
        wait_until(lambda: server.metric("requests_running", **LABELS) == 1)
        two = [pool.submit(upload, server, png()) for _ in range(2)]
        wait_until(lambda: server.metric("requests_waiting", **LABELS) == 2)
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/classify", files={"file": png()}, timeout=0.2)
        wait_until(lambda: len(server.server.server_state.connections) == 3)
        backend.gate.set()
        assert [f.result().status_code for f in (first, *two)] == [200] * 3
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **LABELS) == 1)
        assert server.metric(FINISHED, finish_reason="done", **LABELS) == 3
        assert server.metric("batch_size_count", **LABELS) == 2
        assert server.metric("batch_size_sum", **LABELS) == 3


def test_a_failure_of_the_network_is_an_error_and_the_server_serves_on(
    models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    bad, backend = gated_image(models)
    with running(bad) as server:
        backend.broken = True
        response = upload(server, png())
        backend.broken = False
        assert upload(server, png()).status_code == 200
    assert (response.status_code, response.json()["error"]["type"]) == (500, "internal_error")
    assert "the device is gone" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"I am a text file.\n" * 20, "no readable image"),
        (b"", "no readable image"),
        (png()[:-100], "no readable image"),
        (png_that_claims(20_000, 20_000), "pixels"),
        (png(Image.new("L", (501, 500))), "above the limit of 250000"),
    ],
    ids=["text", "empty", "truncated", "bomb", "too many pixels"],
)
def test_a_file_that_is_no_acceptable_picture_is_refused(
    server: Running, data: bytes, message: str
) -> None:
    for response in (
        upload(server, data),
        server.post("/classify", image=base64.b64encode(data).decode() or "===="),
    ):
        assert response.status_code == 422
        if data:
            assert response.json()["error"]["type"] == "invalid_image"
            assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"image": "not base64!"}, 422, "image"),
        ({"image": "aGVsb"}, 422, "image"),
        ({"image": "aGV!sbG8="}, 422, "image"),
        ({"image": "häh="}, 422, "image"),
        ({"image": 5}, 422, "image"),
        ({}, 422, "image"),
        ({"image": "aaaa", "url": "http://x"}, 422, "url"),
        ({"image": "aaaa", "top_k": 0}, 422, "top_k"),
        ({"image": "aaaa", "top_k": "3"}, 422, "top_k"),
        ({"image": "aaaa", "top_k": 11}, 422, "top_k"),
        ({"image": "a" * 250_000}, 413, None),
    ],
)
def test_json_that_does_not_fit_is_refused(
    server: Running, body: dict[str, Any], status: int, param: str | None
) -> None:
    response = server.client.post("/classify", json=body)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"data": {"top_k": "3"}, "files": {"other": b"x"}}, 422, "other"),
        ({"files": {"top_k": b"3"}}, 422, "top_k"),
        ({"files": {"file": b"x"}, "data": {"colour": "red"}}, 422, "colour"),
        ({"files": {"file": b"x"}, "data": {"top_k": "many"}}, 422, "top_k"),
        ({"files": {"file": b"x"}, "data": {"top_k": "-1"}}, 422, "top_k"),
        ({"files": {"file": b"x"}, "data": {"top_k": "1" * 99}}, 422, "top_k"),
        ({"files": [("file", b"x"), ("file", b"y")]}, 422, "file[0]"),
        ({"files": {"file": b"x"}, "data": {"top_k": ["1", "2"]}}, 400, None),
        ({"files": {"file": b"x" * 250_000}}, 413, None),
    ],
)
def test_a_form_that_does_not_fit_is_refused(
    server: Running, form: dict[str, Any], status: int, param: str | None
) -> None:
    response = server.client.post("/classify", **form)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"garbage", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("image/png", png(), 415),
        ("", png(), 415),
    ],
)
def test_bodies_in_no_known_shape_are_refused(
    server: Running, kind: str, body: bytes, status: int
) -> None:
    headers = {"content-type": kind}
    response = server.client.post("/classify", content=body, headers=headers)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"type", "message", "param"}


# ---------------------------------------------------------------------- nobody waits for another

LARGE = png(Image.new("1", (1025, 1024)))
SLOW = png(Image.new("1", (200, 200)))


class GatedReader:
    """Decodes pictures, those that are `slow` only while its gate is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *slow: bytes) -> None:
        self.gate = threading.Event()
        self.broken = False
        self.begun: list[bytes] = []
        self._slow = slow
        monkeypatch.setattr("serving.engines.making.read_image", self)

    def __call__(self, data: bytes, max_pixels: int) -> Pixels:
        self.begun.append(data)
        if data in self._slow:
            assert self.gate.wait(TIMEOUT_S)
        if self.broken:
            raise RuntimeError("the decoder is gone")
        return read_image(data, max_pixels)


def wait_for_pictures(server: Running, count: int) -> None:
    wait_until(lambda: server.metric("requests_waiting", **LABELS) == count)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_small_picture_waits_for_no_large_one(
    models: Models, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    reader = GatedReader(monkeypatch, LARGE)
    with running(models, threads=threads) as server, ThreadPoolExecutor(12) as pool:
        large = [pool.submit(upload, server, LARGE) for _ in range(12)]
        wait_for_pictures(server, 12)
        assert [upload(server, png()).status_code for _ in range(3)] == [200] * 3
        assert server.client.get("/health/live").status_code == 200
        assert server.metric("requests_waiting", **LABELS) == 12
        assert reader.begun.count(LARGE) <= max(1, threads - 1)
        reader.gate.set()
        assert [answer.result().status_code for answer in large] == [200] * 12
        assert server.metric(FINISHED, finish_reason="done", **LABELS) == 15


def test_a_picture_waits_for_no_other_that_is_slow(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = GatedReader(monkeypatch, SLOW)
    with running(models, threads=2) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(upload, server, SLOW)
        wait_until(lambda: reader.begun == [SLOW])
        assert upload(server, png()).status_code == 200
        assert upload(server, b"no picture").status_code == 422
        assert not slow.done()
        reader.gate.set()
        assert slow.result().status_code == 200


def test_pictures_that_are_decoded_count_against_the_queue(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = GatedReader(monkeypatch, LARGE)
    with running(models, queue_limit=2, max_batch=1) as server, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(upload, server, LARGE) for _ in range(2)]
        wait_for_pictures(server, 2)
        answers += [pool.submit(upload, server, LARGE) for _ in range(2)]
        wait_until(lambda: sum(answer.done() for answer in answers) >= 1)
        reader.gate.set()
        codes = [answer.result().status_code for answer in answers]
    assert 429 in codes
    assert codes.count(200) >= 2


def test_pixels_that_wait_are_bounded_but_a_picture_alone_is_always_taken(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = GatedReader(monkeypatch, LARGE)
    with running(models, queue_pixels=1025 * 1024 + 5000) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(upload, server, LARGE)
        wait_until(lambda: reader.begun == [LARGE])
        second = upload(server, LARGE)
        assert second.status_code == 429
        assert 1 <= int(second.headers["retry-after"]) <= LONGEST_RETRY_S
        assert "1049600 pixels" in second.json()["error"]["message"]
        assert upload(server, png()).status_code == 200, "there is room for a small one"
        huge = LARGE[:16] + b"\0\0\xff\xff" * 2 + LARGE[24:]
        assert upload(server, huge).status_code == 422, "which coming later does not mend"
        assert server.metric("requests_rejected_total", reason="overloaded", **LABELS) == 1
        reader.gate.set()
        assert first.result().status_code == 200
        assert upload(server, LARGE).status_code == 200
    with running(models, queue_pixels=1024) as server:
        assert upload(server, LARGE).status_code == 200


def test_a_picture_that_takes_too_long_is_ended_before_it_is_decoded(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = GatedReader(monkeypatch, LARGE)
    with running(models, deadline_seconds=0.05) as server:
        late = upload(server, LARGE)
        reader.gate.set()
    assert (late.status_code, late.json()["error"]["type"]) == (504, "deadline_exceeded")


def test_a_client_that_leaves_takes_its_picture_out_of_the_queue(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = GatedReader(monkeypatch, LARGE)
    with running(models) as server, ThreadPoolExecutor(2) as pool:
        stay = [pool.submit(upload, server, LARGE)]
        wait_for_pictures(server, 1)
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/classify", files={"file": LARGE}, timeout=0.2)
        wait_until(lambda: len(server.server.server_state.connections) == 1)
        stay.append(pool.submit(upload, server, LARGE))
        wait_until(lambda: server.metric(FINISHED, finish_reason="cancelled", **LABELS) == 1)
        wait_for_pictures(server, 2)
        reader.gate.set()
        assert [answer.result().status_code for answer in stay] == [200] * 2
        wait_until(lambda: server.service.idle)
        assert reader.begun.count(LARGE) == 2


def test_a_decoder_that_fails_ends_its_request_alone(
    models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader = GatedReader(monkeypatch)
    with running(models) as server:
        reader.broken = True
        response = upload(server, png())
        reader.broken = False
        assert upload(server, png()).status_code == 200
    assert (response.status_code, response.json()["error"]["type"]) == (500, "internal_error")
    assert "the decoder is gone" in caplog.text


@pytest.mark.parametrize("grace_s", [TIMEOUT_S, 0.0])
def test_a_drain_waits_for_pictures_that_are_decoded_while_there_is_time(
    models: Models, monkeypatch: pytest.MonkeyPatch, grace_s: float
) -> None:
    reader = GatedReader(monkeypatch, LARGE)
    with running(models, grace_seconds=grace_s) as server, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(upload, server, LARGE) for _ in range(2)]
        wait_for_pictures(server, 2)
        server.server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: server.service.draining)
        if not grace_s:
            wait_until(lambda: all(answer.done() for answer in answers))
        reader.gate.set()
        codes = [answer.result().status_code for answer in answers]
    assert codes == [200 if grace_s else 503] * 2
