"""Triton's own client works unchanged with the Open Inference Protocol, for texts and pictures."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from luminanet.artifact.manifest import Family
from serving.models.load import Models
from tests.serving.api.test_classify import PIXELS, png, upload
from tests.serving.helpers import (
    OF_PICTURES,
    OF_TEXTS,
    Running,
    all_cancelled,
    crowded,
    gated,
    gated_image,
    running,
    wait_until,
)

TEXT, IMAGE = "luminanet-tinystories", "luminanet-cifar10"
CALM = {"max_tokens": 6, "seed": 3}
BINARY = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])


@contextmanager
def connected(server: Running) -> Iterator[Any]:
    url = server.client.base_url
    with triton.InferenceServerClient(f"{url.host}:{url.port}") as client:
        yield client


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with connected(server) as client:
        yield client


def given(name: str, values: Any, datatype: str = "BYTES", binary: bool = True) -> Any:
    array = np.array(values, object) if datatype == "BYTES" else values
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def asked(*names: str, binary: bool = True, **how: Any) -> list[Any]:
    return [triton.InferRequestedOutput(name, binary_data=binary, **how) for name in names]


def words(array: Any) -> list[str]:
    """A tensor of BYTES, which the client gives as bytes or, out of JSON, as texts."""
    return [item.decode() if isinstance(item, bytes) else item for item in array.ravel()]


def stats(client: Any, model: str) -> Any:
    (of_model,) = client.get_inference_statistics(model)["model_stats"]
    return of_model


# ---------------------------------------------------------------------- texts


@BINARY
def test_every_row_is_what_generate_writes_with_its_seed(
    server: Running, client: Any, binary: bool
) -> None:
    prompts = ["a b", "Once upon a time"]
    names = "text", "finish_reason", "prompt_tokens", "completion_tokens", "seed"
    result = client.infer(
        TEXT,
        [given("prompt", [prompt.encode() for prompt in prompts], binary=binary)],
        outputs=asked(*names, binary=binary),
        parameters=CALM,
    )
    text, finish, read, written, seeds = (result.as_numpy(name) for name in names)
    for row, prompt in enumerate(prompts):
        ours = server.post("/generate", prompt=prompt, max_tokens=6, seed=3 + row).json()
        assert words(text)[row] == ours["text"]
        assert words(finish)[row] == ours["finish_reason"]
        assert read[row] == ours["usage"]["prompt_tokens"]
        assert written[row] == ours["usage"]["completion_tokens"]
        assert seeds[row] == ours["seed"]


def test_the_parameters_are_those_of_generate(server: Running, client: Any) -> None:
    how = {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.01, "stop": "e", "seed": 5}
    how |= {"repetition_penalty": 1.2, "max_tokens": 20}
    result = client.infer("gpt2", [given("prompt", [b"a b"])], parameters=how)
    ours = server.post("/generate", prompt="a b", model="gpt2", **how).json()
    assert words(result.as_numpy("text")) == [ours["text"]]


def test_a_seed_that_is_not_given_is_chosen_and_told(client: Any) -> None:
    def ask(**how: int) -> Any:
        result = client.infer(TEXT, [given("prompt", [b"a"])], parameters={"max_tokens": 5, **how})
        return result.as_numpy("seed"), result.as_numpy("text")

    seed, text = ask()
    assert ask(seed=int(seed[0])) == (seed, text)


def test_a_prompt_in_bytes_is_utf_8(server: Running, client: Any) -> None:
    result = client.infer(TEXT, [given("prompt", ["für".encode()])], parameters=CALM)
    ours = server.post("/generate", prompt="für", max_tokens=6, seed=3).json()
    assert words(result.as_numpy("text")) == [ours["text"]]
    with pytest.raises(InferenceServerException, match=r"prompt\[1\] is not UTF-8"):
        client.infer(TEXT, [given("prompt", [b"a", b"\xff"])])


# ---------------------------------------------------------------------- pictures


def pictures(count: int) -> list[bytes]:
    return [png(Image.new("RGB", (32, 32), (n * 80, 100, 0))) for n in range(count)]


@BINARY
def test_files_get_the_answers_that_classify_gives(
    server: Running, client: Any, binary: bool
) -> None:
    files = [png(), *pictures(3)]
    sent = files if binary else [base64.b64encode(file) for file in files]
    result = client.infer(
        IMAGE,
        [given("encoded", sent, binary=binary)],
        outputs=asked("probabilities", "label", "index", binary=binary),
    )
    for row, file in enumerate(files):
        ours = upload(server, file).json()
        expected = np.array([*ours["probabilities"].values()], np.float32)
        np.testing.assert_allclose(result.as_numpy("probabilities")[row], expected, rtol=1e-5)
        assert words(result.as_numpy("label"))[row] == ours["label"]
        assert result.as_numpy("index")[row] == ours["index"]


@BINARY
def test_pixels_get_the_answers_that_their_file_gets(client: Any, binary: bool) -> None:
    pixels = np.stack([PIXELS.transpose(2, 0, 1), 255 - PIXELS.transpose(2, 0, 1)])
    decoded = client.infer(IMAGE, [given("images", pixels, "UINT8", binary)])
    files = [png(), png(Image.fromarray(255 - PIXELS))]
    expected = client.infer(IMAGE, [given("encoded", files)])
    found = decoded.as_numpy("probabilities")
    assert (found.shape, found.dtype) == ((2, 10), np.float32)
    np.testing.assert_allclose(found, expected.as_numpy("probabilities"), rtol=1e-5)


def test_the_pictures_of_a_request_are_computed_together(models: Models) -> None:
    with running(models, max_batch=4) as server, connected(server) as client:
        client.infer(IMAGE, [given("images", np.zeros((4, 3, 32, 32), np.uint8), "UINT8")])
        assert server.metric("batch_size_sum", **OF_PICTURES) == 4
        assert server.metric("batch_size_count", **OF_PICTURES) <= 2, "the first may go ahead"


@BINARY
def test_triton_s_classification_lists_the_best_classes(
    server: Running, client: Any, binary: bool
) -> None:
    result = client.infer(
        IMAGE,
        [given("encoded", [png(), png()])],
        outputs=asked("probabilities", binary=binary, class_count=3),
    )
    best = upload(server, png(), top_k="3").json()["top_k"]
    expected = [f"{e['probability']:f}:{e['index']}:{e['label']}" for e in best]
    assert result.as_numpy("probabilities").shape == (2, 3)
    assert words(result.as_numpy("probabilities")) == expected * 2


def test_a_picture_that_is_none_is_named(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"encoded\[1\]: .*no readable image") as no:
        client.infer(IMAGE, [given("encoded", [png(), b"no picture"])])
    assert no.value.status() == "400"


# ---------------------------------------------------------------------- models and server


def test_the_server_says_what_it_speaks(client: Any) -> None:
    told = client.get_server_metadata()
    assert told["name"] == "luminanet"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(told["extensions"])
    assert client.is_server_live()
    assert client.is_server_ready()


def test_a_model_has_the_name_of_its_artifact_or_of_its_family_where_that_is_one(
    client: Any,
) -> None:
    assert client.is_model_ready(TEXT)
    assert client.is_model_ready("gpt2")
    assert client.get_model_metadata("gpt2") == client.get_model_metadata("gpt2-tinystories")
    assert not client.is_model_ready("gpt3")
    with pytest.raises(InferenceServerException, match=f"{IMAGE}, {TEXT}") as both:
        client.get_model_metadata("luminanet")
    assert both.value.status() == "404"


def test_a_family_of_one_task_is_a_name(models: Models) -> None:
    alone = Models({Family.LUMINANET: models.text[Family.LUMINANET]}, None)
    with running(alone) as server, connected(server) as client:
        assert client.get_model_metadata("luminanet")["name"] == TEXT
        result = client.infer("luminanet", [given("prompt", [b"a"])], parameters=CALM)
        assert result.get_response()["model_name"] == TEXT


def test_every_model_has_one_version(client: Any) -> None:
    assert client.is_model_ready(TEXT, "1")
    assert not client.is_model_ready(TEXT, "2")
    assert client.get_model_metadata(TEXT, "1")["versions"] == ["1"]
    assert client.get_inference_statistics(TEXT, "1")["model_stats"]
    inputs = [given("prompt", [b"a"])]
    result = client.infer(TEXT, inputs, model_version="1", request_id="42", parameters=CALM)
    told = result.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == (TEXT, "1", "42")
    with pytest.raises(InferenceServerException, match="no version '2'"):
        client.infer(TEXT, inputs, model_version="2")


@pytest.mark.parametrize("model", [TEXT, "gpt2", IMAGE])
def test_what_a_model_tells_of_its_tensors_is_what_it_takes_and_gives(
    client: Any, model: str
) -> None:
    told = client.get_model_metadata(model)
    for tensor in told["inputs"]:
        shape = [2 if size == -1 else size for size in tensor["shape"]]
        item = png() if model == IMAGE else b"a"
        values = np.zeros(shape, np.uint8) if tensor["datatype"] == "UINT8" else [item] * 2
        result = client.infer(model, [given(tensor["name"], values, tensor["datatype"])])
        answered = result.get_response()["outputs"]
        assert [out["name"] for out in answered] == [out["name"] for out in told["outputs"]]
        for found, expected in zip(answered, told["outputs"], strict=True):
            assert found["datatype"] == expected["datatype"]
            assert found["shape"] == [2 if size == -1 else size for size in expected["shape"]]


def test_the_index_lists_what_is_loaded(client: Any, server: Running) -> None:
    index = client.get_model_repository_index()
    assert {model["name"] for model in index} == {TEXT, IMAGE, "gpt2-tinystories"}
    assert {(model["version"], model["state"]) for model in index} == {("1", "READY")}
    assert server.post("/v2/repository/index", ready=True).json() == index


def test_a_server_that_drains_is_live_and_not_ready(models: Models) -> None:
    with running(models) as server, connected(server) as client:
        server.service.draining = True
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready(TEXT)
        assert server.post("/v2/repository/index", ready=True).json() == []
        assert {m["state"] for m in client.get_model_repository_index()} == {"UNAVAILABLE"}


# ---------------------------------------------------------------------- statistics


def test_requests_rows_and_calls_are_counted(models: Models) -> None:
    with running(models) as server, connected(server) as client:
        before = stats(client, TEXT)
        client.infer(TEXT, [given("prompt", [b"a", b"b", b"c"])], parameters=CALM)
        server.post("/generate", prompt="a", max_tokens=1)
        with pytest.raises(InferenceServerException):
            client.infer(TEXT, [given("prompt", [b""])])
        told = stats(client, TEXT)
        others = client.get_inference_statistics()["model_stats"]
        calls = server.metric("inference_duration_seconds_count", phase="decode", **OF_TEXTS)
    assert (before["inference_count"], before["last_inference"]) == (0, 0)
    assert told["inference_count"] == 3, "rows of this protocol"
    assert told["last_inference"] > 1.7e12, "milliseconds"
    counted = told["inference_stats"]
    assert (counted["success"]["count"], counted["fail"]["count"]) == (1, 1)
    assert counted["queue"]["count"] == 4, "rows of all clients"
    assert told["execution_count"] == counted["compute_infer"]["count"] == calls
    assert counted["success"]["ns"] > counted["compute_infer"]["ns"] / 2 > 0
    assert [m["inference_count"] for m in others if m["name"] != TEXT] == [0, 0]


# ---------------------------------------------------------------------- refusals and failures


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"max_tokens": -1}, "max_tokens: input should be greater than or equal to"),
        ({"max_tokens": 10**9}, "this server allows 1 to 4096"),
        ({"temperature": -1}, "temperature: input should be"),
        ({"temperature": float("nan")}, "the body is not JSON"),
        ({"seed": "x"}, "seed: input should be a valid integer"),
        ({"stop": ["a"] * 5}, "at most 4 items"),
        ({"stream": True}, "there is no 'stream', only max_tokens, "),
        ({"model": "gpt2"}, "there is no 'model'"),
        ({"colour": 1}, "there is no 'colour'"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(
    client: Any, parameters: dict[str, Any], why: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(TEXT, [given("prompt", [b"a"])], parameters=parameters)
    assert refused.value.status() == "400"
    assert why in refused.value.message()


def test_a_prompt_that_is_too_long_is_named(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"prompt\[1\]: the prompt has .* tokens"):
        client.infer(TEXT, [given("prompt", [b"a", b"a b " * 400])])


@pytest.mark.parametrize(
    ("model", "of", "sent"),
    [
        (TEXT, OF_TEXTS, given("prompt", [b"a", b"b"])),
        (IMAGE, OF_PICTURES, given("encoded", [png(), png()])),
    ],
    ids=["texts", "pictures"],
)
def test_rows_get_places_for_all_or_for_none(
    models: Models, model: str, of: dict[str, str], sent: Any
) -> None:
    with (
        crowded(models, of) as server,
        connected(server) as client,
        pytest.raises(InferenceServerException, match="wait for luminanet") as refused,
    ):
        client.infer(model, [sent])
    assert refused.value.status() == "429"


def test_pictures_that_could_never_wait_together_are_refused(models: Models) -> None:
    files = [png(Image.new("L", (40, 40)))] * 3
    with running(models, queue_pixels=4000) as server, connected(server) as client:
        client.infer(IMAGE, [given("encoded", files[:2])])
        with pytest.raises(InferenceServerException, match="4800 pixels together") as refused:
            client.infer(IMAGE, [given("encoded", files)])
    assert refused.value.status() == "400"


def prompts(*texts: str, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "prompt", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {"inputs": [tensor], "parameters": parameters}


def test_a_client_that_leaves_takes_all_its_texts_along(models: Models) -> None:
    slow, backend = gated(models)
    with running(slow) as server:
        backend.closing_at = backend.runs + 2
        body = prompts("a", "b", "c", max_tokens=4000, seed=1)
        with pytest.raises(httpx.ReadTimeout):
            server.client.post(f"/v2/models/{TEXT}/infer", json=body, timeout=0.5)
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        cancelled = {"finish_reason": "cancelled", **OF_TEXTS}
        wait_until(lambda: server.metric("requests_finished_total", **cancelled) == 3)
        with connected(server) as client:
            wait_until(lambda: stats(client, TEXT)["inference_stats"]["fail"]["count"] == 1)


def test_a_client_that_leaves_takes_all_its_pictures_along(models: Models) -> None:
    slow, backend = gated_image(models)
    with running(slow, max_batch=1) as server:
        backend.gate.clear()
        files = [base64.b64encode(png()).decode()] * 3
        tensor = {"name": "encoded", "datatype": "BYTES", "shape": [3], "data": files}
        url = f"/v2/models/{IMAGE}/infer"
        with pytest.raises(httpx.ReadTimeout):
            server.client.post(url, json={"inputs": [tensor]}, timeout=0.5)
        wait_until(lambda: not server.server.server_state.connections)
        backend.gate.set()
        cancelled = {"finish_reason": "cancelled", **OF_PICTURES}
        wait_until(lambda: server.metric("requests_finished_total", **cancelled) >= 2)
        assert server.metric("batch_size_count", **OF_PICTURES) <= 1, "what ran when it left"


@pytest.mark.parametrize(
    ("model", "break_of", "sent"),
    [
        (TEXT, gated, given("prompt", [b"a", b"b"])),
        (IMAGE, gated_image, given("encoded", [png(), png()])),
    ],
    ids=["texts", "pictures"],
)
def test_a_failure_of_the_network_is_raised_by_the_client(
    models: Models, model: str, break_of: Any, sent: Any
) -> None:
    bad, backend = break_of(models)
    with running(bad) as server, connected(server) as client:
        backend.broken = True
        with pytest.raises(InferenceServerException, match="the network failed") as failed:
            client.infer(model, [sent])
    assert failed.value.status() == "500"


def test_a_request_that_takes_too_long_is_a_504(models: Models) -> None:
    endless = {"max_tokens": 10**9, "temperature": 0}
    with (
        running(models, deadline_seconds=0.05, max_tokens_limit=10**9) as server,
        connected(server) as client,
        pytest.raises(InferenceServerException, match="took longer") as late,
    ):
        client.infer(TEXT, [given("prompt", [b"a", b"a"])], parameters=endless)
    assert late.value.status() == "504"


def test_without_a_key_probes_alone_are_answered(models: Models, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"{sha256(b'the key').hexdigest()}  somebody\n")
    with (
        running(models, api_keys_file=tmp_path / "keys.txt") as server,
        connected(server) as client,
    ):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert not client.is_model_ready(TEXT)
        with pytest.raises(InferenceServerException, match="this server needs a key") as refused:
            client.infer(TEXT, [given("prompt", [b"a"])])
        with_key = {"Authorization": "Bearer the key"}
        sent = [given("prompt", [b"a"])]
        assert client.infer(TEXT, sent, parameters=CALM, headers=with_key).as_numpy("text").size
    assert refused.value.status() == "401"


def test_a_fault_of_ours_is_told_without_details(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(models) as server, connected(server) as client:
        monkeypatch.setattr(server.service, "text", lambda _: 1 / 0)
        with pytest.raises(InferenceServerException, match="the server failed") as failed:
            client.get_model_metadata(TEXT)
    assert failed.value.status() == "500"


def test_what_is_not_of_the_protocol_is_still_told_in_its_words(models: Models) -> None:
    with running(models) as server, connected(server) as client:
        with pytest.raises(InferenceServerException, match="there is no /v2/models/gpt2/config"):
            client.get_model_config("gpt2")
        wrong = server.client.get("/v2/models/gpt2/infer")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert "does not take GET" in wrong.json()["error"]
