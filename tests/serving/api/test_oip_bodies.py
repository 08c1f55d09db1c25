"""Requests of the Open Inference Protocol as clients write them by hand: what is wrong in them is
told in its words, and costs no more than what is right."""

import base64
import json
import tracemalloc
from contextlib import suppress
from typing import Any

import httpx
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from luminanet.artifact.manifest import Family, Manifest, Task
from serving.api.oip import wire
from serving.api.oip.pictures import interface
from serving.api.oip.tensors import Tensor, bytes_elements
from serving.api.oip.wire import HEADER, OCTETS, Call
from serving.errors import ApiError, RequestError
from serving.models.load import Models
from tests.serving.api.test_bodies import WRONG
from tests.serving.api.test_classify import png
from tests.serving.helpers import Running, running

TEXT, IMAGE = "luminanet-tinystories", "luminanet-cifar10"
SHAPE = [2, 3, 32, 32]
PIXELS = np.random.default_rng(2).integers(0, 256, SHAPE, np.uint8)
PICTURE = base64.b64encode(png()).decode()


def prompt(**changed: Any) -> dict[str, Any]:
    return {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["a"], **changed}


def images(**changed: Any) -> dict[str, Any]:
    flat = PIXELS.ravel().tolist()
    return {"name": "images", "datatype": "UINT8", "shape": SHAPE, "data": flat, **changed}


def files(**changed: Any) -> dict[str, Any]:
    return {"name": "encoded", "datatype": "BYTES", "shape": [1], "data": [PICTURE], **changed}


def infer(server: Running, model: str, *inputs: Any, **fields: Any) -> httpx.Response:
    return server.post(f"/v2/models/{model}/infer", inputs=inputs, **fields)


def infer_bytes(
    server: Running, model: str, tensor: dict[str, Any], data: bytes, **headers: str
) -> httpx.Response:
    """`data` behind the JSON."""
    tensor = {name: value for name, value in tensor.items() if name != "data"}
    front = json.dumps({"inputs": [tensor]}).encode()
    sent = {HEADER: str(len(front)), "content-type": OCTETS, **headers}
    return server.client.post(f"/v2/models/{model}/infer", content=front + data, headers=sent)


def counted(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def outputs(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


# ---------------------------------------------------------------------- what is right


def test_pixels_may_be_flat_or_nested_or_bytes(server: Running) -> None:
    flat = infer(server, IMAGE, images())
    nested = infer(server, IMAGE, images(data=PIXELS.tolist()))
    sized = images(parameters={"binary_data_size": PIXELS.nbytes})
    as_bytes = infer_bytes(server, IMAGE, sized, PIXELS.tobytes())
    assert len(outputs(flat)["label"]) == 2
    np.testing.assert_allclose(outputs(flat)["probabilities"], outputs(nested)["probabilities"])
    np.testing.assert_allclose(outputs(flat)["probabilities"], outputs(as_bytes)["probabilities"])


def test_outputs_come_in_the_order_asked_and_each_as_it_is_asked(server: Running) -> None:
    asked = [
        {"name": "index"},
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": False, "classification": None}},
    ]
    parameters = {"binary_data_output": True}
    answer = infer(server, IMAGE, files(), outputs=asked, parameters=parameters)
    size = int(answer.headers[HEADER])
    assert answer.headers["content-type"] == OCTETS
    told = json.loads(answer.content[:size])["outputs"]
    assert [output["name"] for output in told] == ["index", "probabilities", "label"]
    assert [output.get("parameters") for output in told] == [
        {"binary_data_size": 8},
        {"binary_data_size": 40},
        None,
    ]
    behind = answer.content[size:]
    index, probabilities = np.frombuffer(behind[:8], "<i8"), np.frombuffer(behind[8:], "<f4")
    plain = outputs(infer(server, IMAGE, files()))
    assert index.tolist() == plain["index"]
    np.testing.assert_allclose(probabilities, plain["probabilities"], rtol=1e-6)
    assert told[2]["data"] == plain["label"]


def test_null_is_as_if_absent_in_every_part(server: Running) -> None:
    plain = infer(server, TEXT, prompt(), parameters={"seed": 1})
    nulls = dict.fromkeys(("max_tokens", "stop", "temperature", "binary_data_output"))
    same = infer(
        server,
        TEXT,
        prompt(parameters={"binary_data_size": None}),
        parameters={"seed": 1, **nulls},
        outputs=[{"name": name, "parameters": None} for name in outputs(plain)],
    )
    assert outputs(same) == outputs(plain)


def test_a_content_type_may_be_left_out(server: Running) -> None:
    body = json.dumps({"inputs": [prompt()], "parameters": {"max_tokens": 1}})
    url = f"/v2/models/{TEXT}/infer"
    assert server.client.post(url, content=body).status_code == 200
    refused = server.client.post(url, content=body, headers={"content-type": "text/plain"})
    assert refused.status_code == 415
    packed = {"content-encoding": "gzip"}
    assert server.client.post(url, content=body, headers=packed).status_code == 415


@pytest.mark.parametrize("text", ["", "a", "ü", "\U0001f600" * 99])
def test_texts_become_bytes_and_texts_again(text: str) -> None:
    tensor = Tensor.of("text", [text, "b"])
    found = bytes_elements(memoryview(tensor.to_bytes()), tensor.shape, "text")
    assert [element.decode() for element in found] == [text, "b"]


# ---------------------------------------------------------------------- what is wrong

NESTED: Any = PIXELS.tolist()
SHORT_ROW = [[[row[:31] for row in channel] for channel in picture] for picture in NESTED]


@pytest.mark.parametrize(
    ("model", "tensor", "why"),
    [
        (TEXT, prompt(shape=[]), "prompt has the shape []: send [-1]"),
        (TEXT, prompt(shape=[0], data=[]), "prompt has the shape [0]: a request has 1 to"),
        (TEXT, prompt(shape=[129]), "a request has 1 to 128 rows here"),
        (TEXT, prompt(shape=[1, 1]), "prompt has the shape [1, 1]: send [-1]"),
        (TEXT, prompt(shape=[2]), "prompt: it has 1 values, where its shape asks for 2"),
        (TEXT, prompt(shape=[-1]), "inputs[0]: shape.0: input should be greater than or equal"),
        (TEXT, prompt(shape=[1.0]), "inputs[0]: shape.0: input should be a valid integer"),
        (TEXT, prompt(shape=[10**30]), "inputs[0]: shape.0"),
        (TEXT, prompt(shape=[1] * 9), "inputs[0]: shape"),
        (TEXT, prompt(shape=None), "inputs[0]: shape"),
        (TEXT, prompt(datatype="UINT8"), "prompt has the datatype 'UINT8': send BYTES"),
        (TEXT, prompt(datatype="STRING"), "send BYTES"),
        (TEXT, prompt(name="text_input"), "there is no input 'text_input': send prompt"),
        (TEXT, prompt(colour=1), "inputs[0]: there is no field 'colour'"),
        (TEXT, prompt(data=[1]), "prompt: all its data must be strings"),
        (TEXT, prompt(data=[["a"]]), "prompt: all its data must be strings"),
        (TEXT, prompt(data="a"), "inputs[0]: data: input should be a valid list"),
        (TEXT, prompt(data=[""]), "prompt[0] is empty"),
        (TEXT, prompt(data=None), "prompt needs either data, or its bytes"),
        (TEXT, prompt(parameters={"binary_data_size": 5}), "prompt needs either data, or"),
        (TEXT, prompt(parameters={"shared_memory_region": "x"}), "no field 'shared_memory_region'"),
        (TEXT, prompt(parameters=[]), "inputs[0]: parameters: input should be a valid dictionary"),
        (IMAGE, prompt(), "there is no input 'prompt': send encoded or images"),
        (IMAGE, files(data=["!"]), "encoded[0]: image is not base64"),
        (IMAGE, files(data=[PICTURE[:400]]), "encoded[0]: the bytes are no readable image"),
        (IMAGE, images(datatype="FP32"), "images has the datatype 'FP32': send UINT8"),
        (IMAGE, images(shape=[2, 32, 32, 3]), "send [-1, 3, 32, 32]"),
        (IMAGE, images(shape=[1, 3, 32, 32]), "it has 6144 values, where its shape asks for 3072"),
        (IMAGE, images(data=[]), "it has 0 values"),
        (IMAGE, images(data=[256] * 6144), "whole numbers from 0 to 255"),
        (IMAGE, images(data=[-1] * 6144), "whole numbers from 0 to 255"),
        (IMAGE, images(data=[10**30] * 6144), "whole numbers from 0 to 255"),
        (IMAGE, images(data=[0.5] * 6144), "whole numbers from 0 to 255"),
        (IMAGE, images(data=[True] * 6144), "whole numbers from 0 to 255"),
        (IMAGE, images(data=["a", *[0] * 6143]), "whole numbers from 0 to 255"),
        (IMAGE, images(data=[*[0] * 6143, [0]]), "whole numbers from 0 to 255"),
        (IMAGE, images(data=NESTED[:1]), "neither flat nor nested as its shape"),
        (IMAGE, images(data=SHORT_ROW), "neither flat nor nested as its shape"),
        (IMAGE, images(data=[[], 0]), "neither flat nor nested as its shape"),
        (IMAGE, images(data=[[[[[0]]]]] * 2), "neither flat nor nested as its shape"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    server: Running, model: str, tensor: Any, why: str
) -> None:
    refused = infer(server, model, tensor)
    assert refused.status_code == 400
    assert why in refused.json()["error"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"inputs": []}, "the request has 0 inputs: send one, encoded or images"),
        ({"inputs": [files(), images()]}, "the request has 2 inputs: send one"),
        ({"inputs": [{}] * 4000}, "the request has 4000 inputs"),
        ({"inputs": [1]}, "inputs.0: input should be a valid dictionary"),
        ({"inputs": None}, "inputs: input should be a valid list"),
        ({"id": 7}, "id: input should be a valid string"),
        ({"id": "x" * 257}, "id: string should have at most 256 characters"),
        (
            {"outputs": [{"name": "logits"}]},
            "there is no output 'logits', or it is asked for",
        ),
        ({"outputs": [{}]}, "outputs[0]: name: field required"),
        ({"outputs": [{"name": "label"}] * 2}, "no output 'label', or it is asked for twice"),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 2}}]},
            "classification is 2 of label: ask for 1 to 10 of probabilities",
        ),
        (
            {"outputs": [{"name": "probabilities", "parameters": {"classification": 11}}]},
            "ask for 1 to 10",
        ),
        (
            {"outputs": [{"name": "probabilities", "parameters": {"classification": 0}}]},
            "outputs[0].parameters: classification: input should be greater than or equal to 1",
        ),
        (
            {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
            "outputs[0].parameters: binary_data: input should be a valid boolean",
        ),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output is true or false"),
        ({"parameters": {"seed": 1}}, "there is no 'seed', only binary_data_output"),
        ({"colour": 1}, "there is no field 'colour'"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    server: Running, fields: dict[str, Any], why: str
) -> None:
    body = {"inputs": [files()], **fields}
    refused = server.post(f"/v2/models/{IMAGE}/infer", **body)
    assert refused.status_code == 400
    assert why in refused.json()["error"]


def test_texts_have_no_classes(server: Running) -> None:
    asked = [{"name": "text", "parameters": {"classification": 1}}]
    assert "no classes" in infer(server, TEXT, prompt(), outputs=asked).json()["error"]


def sized(size: int, **changed: Any) -> dict[str, Any]:
    return prompt(parameters={"binary_data_size": size}, **changed)


@pytest.mark.parametrize(
    ("tensor", "data", "why"),
    [
        (sized(5), counted(b"a")[:4], "4 bytes follow the JSON, where binary_data_size asks for 5"),
        (sized(5), counted(b"ab"), "6 bytes follow the JSON"),
        (sized(-1), b"", "prompt.parameters: binary_data_size: input should be greater than"),
        (sized(2**63), b"", "prompt.parameters: binary_data_size: input should be less than"),
        (prompt(), counted(b"a"), "prompt needs either data, or its bytes behind the JSON"),
        (sized(3), b"\0\0\0", "prompt: its bytes end within element 0"),
        (sized(5), b"\xff\xff\xff\xffa", "prompt: its bytes end within element 0"),
        (sized(5, shape=[2]), counted(b"a"), "prompt: its bytes end within element 1"),
        (sized(6), counted(b"a") + b"x", "it has 6 bytes, where its shape asks for 5"),
        (sized(4), counted(b""), "prompt[0] is empty"),
        (sized(5, shape=[1 << 40]), counted(b"a"), "a request has 1 to 128 rows"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    server: Running, tensor: Any, data: bytes, why: str
) -> None:
    refused = infer_bytes(server, TEXT, tensor, data)
    assert refused.status_code == 400
    assert why in refused.json()["error"]


def test_bytes_of_pixels_are_as_many_as_the_shape_says(server: Running) -> None:
    tensor = images(parameters={"binary_data_size": 3071})
    refused = infer_bytes(server, IMAGE, tensor, bytes(3071))
    assert "images: it has 3071 bytes, where its shape asks for 6144" in refused.json()["error"]


@pytest.mark.parametrize(
    ("length", "why"),
    [
        ("99999", "is 99999, but the body has"),
        ("9" * 5000, "must be the number of bytes"),
        ("-1", "must be the number of bytes"),
        ("+5", "must be the number of bytes"),
        ("", "must be the number of bytes"),
        ("0", "the body is not JSON: it is empty"),
        ("10", "the body is not JSON: it ends too early"),
    ],
)
def test_a_wrong_length_of_the_json_is_refused(server: Running, length: str, why: str) -> None:
    refused = infer_bytes(server, TEXT, sized(5), counted(b"a"), **{HEADER: length})
    assert refused.status_code == 400
    assert why in refused.json()["error"]


def test_a_length_that_includes_bytes_finds_that_they_are_no_json(server: Running) -> None:
    front = json.dumps({"inputs": [sized(5)]}).encode()
    headers = {HEADER: str(len(front) + 5)}
    url = f"/v2/models/{TEXT}/infer"
    refused = server.client.post(url, content=front + counted(b"a"), headers=headers)
    assert (refused.status_code, refused.json()["error"][:20]) == (400, "the body is not JSON")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(server: Running, number: str) -> None:
    body = json.dumps({"inputs": [images(data=["here"])]}).replace('"here"', number)
    refused = server.client.post(f"/v2/models/{IMAGE}/infer", content=body)
    assert refused.status_code == 400


# ---------------------------------------------------------------------- what it costs


def test_a_text_has_a_smaller_limit_than_a_picture(models: Models) -> None:
    with running(models) as server:
        long = prompt(data=["a" * 2_000_000])
        refused = infer(server, TEXT, long)
        assert refused.status_code == 413
        assert "the body has more than" in refused.json()["error"]
        assert infer(server, IMAGE, files(data=["a" * 2_000_000])).status_code == 400
        assert infer(server, IMAGE, files(data=["a" * 9_000_000])).status_code == 413


PEAK_BYTES = 2_000_000
"""What the values that a body may have take of Python's memory, whatever they are."""


def read(body: bytes) -> Call:
    manifest = Manifest("m", Task.CLASSIFICATION, Family.LUMINANET, "", 0, 0, labels=("a", "b"))
    return wire.read(body, None, interface(manifest, 128))


def check_peak(body: bytes) -> None:
    """Reads a wrong body, and asserts that it took little more memory than its size."""
    tracemalloc.start()
    try:
        with pytest.raises(ApiError):
            read(body)
        assert tracemalloc.get_traced_memory()[1] < len(body) + PEAK_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_body_takes_little_more_memory_than_its_size(body: str) -> None:
    check_peak(body.encode())


@pytest.mark.parametrize(
    ("item", "count"),
    [
        ("0", 1 << 15),
        ("1.5", 1 << 15),
        ('"ab"', 1 << 11),
        ('{"a":0}', 1 << 11),
        ("{}", 1 << 12),
        ("[0]", 1 << 12),
    ],
)
@pytest.mark.parametrize("field", ["inputs", "outputs", "parameters", "data", "shape"])
def test_as_many_values_as_there_may_be_cost_little(field: str, item: str, count: int) -> None:
    values = ",".join([item] * (count - 10))
    front = '{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 3, 32, 32], '
    if field in ("data", "shape"):
        body = f'{front}"{field}": [{values}]}}]}}'
    else:
        body = f'{{"{field}": [{values}]}}'
    check_peak(body.encode())


@pytest.mark.parametrize("mark", ',[{"')
def test_more_values_than_there_may_be_are_refused_before_they_are_read(mark: str) -> None:
    with pytest.raises(RequestError, match="send the data as bytes behind it"):
        read(mark.encode() * (wire.MOST[mark.encode()] + 1))


def test_ten_pictures_of_pixels_fit_into_json() -> None:
    pixels = np.full((10, 3, 32, 32), 255, np.uint8)
    tensor = images(shape=list(pixels.shape), data=pixels.tolist())
    call = read(json.dumps({"inputs": [tensor]}, indent=1).encode())
    assert np.array_equal(call.input.elements, pixels)


# ---------------------------------------------------------------------- anything

JSONS = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=5,
)
PLACES = (
    ("id",),
    ("parameters",),
    ("parameters", "binary_data_output"),
    ("inputs",),
    ("inputs", 0),
    *(("inputs", 0, name) for name in ("name", "datatype", "shape", "data", "parameters")),
    ("inputs", 0, "parameters", "binary_data_size"),
    ("inputs", 0, "shape", 0),
    ("inputs", 0, "data", 0),
    ("outputs",),
    ("outputs", 0),
    ("outputs", 0, "name"),
    ("outputs", 0, "parameters", "classification"),
)


@hypothesis.given(place=strategies.sampled_from(PLACES), value=JSONS)
def test_whatever_stands_in_a_place_is_read_or_refused(place: Any, value: Any) -> None:
    body: Any = {
        "id": "1",
        "parameters": {},
        "inputs": [files(parameters={})],
        "outputs": [{"name": "label", "parameters": {}}],
    }
    *way, last = place
    part = body
    for step in way:
        part = part[step]
    part[last] = value
    with suppress(ApiError):
        call = read(json.dumps(body).encode())
        assert len(call.input.elements) == call.input.shape[0]


@hypothesis.given(rows=strategies.integers(1, 4), data=strategies.binary(max_size=40))
def test_whatever_bytes_come_are_elements_or_refused(rows: int, data: bytes) -> None:
    with suppress(ApiError):
        elements = bytes_elements(memoryview(data), [rows], "prompt")
        assert b"".join(map(counted, elements)) == data
