"""Bodies as clients write them: what is wrong costs no more than what is right, and is told in our
own words."""

import asyncio
import base64
import json
import tracemalloc
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Message

from serving.api import encoded
from serving.api.jobs.texts import text_bytes
from serving.api.requests import JSON, known, parse, read_pictures
from serving.api.schemas import Body
from serving.api.streaming import Telling
from serving.engines.text import Piece
from serving.errors import ApiError, RequestError
from serving.models.load import Models
from tests.nets import tiny_tokenizer
from tests.serving.api.test_classify import png
from tests.serving.helpers import Running

SIZE = 1_000_000


def schemas(base: type[Body] = Body) -> list[type[Body]]:
    return [s for child in base.__subclasses__() for s in (child, *schemas(child))]


def items(item: str, size: int = SIZE) -> str:
    return ",".join([item] * (size // (len(item) + 1)))


TENSOR = {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["a"]}
WRONG = {
    "numbers": f'{{"prompt":"a","image":"aaaa","stop":[{items("0")}]}}',
    "strings": f'{{"prompt":"a","image":"aaaa","stop":[{items(chr(34) * 2)}]}}',
    "objects": f'{{"prompt":"a","image":"aaaa","stop":[{items("{}")}]}}',
    "unknown fields": "{" + ",".join(f'"{i:x}":0' for i in range(SIZE // 9)) + "}",
    "the same field": f"{{{items(chr(34) + 'image' + chr(34) + ':0')}}}",
    "items at the top": f"[{items('0')}]",
    "deep": '{"image":' + "[" * SIZE,
    "one number": '{"top_k":' + "1" * SIZE + "}",
}


def peak_bytes(body: bytes) -> tuple[int, ApiError]:
    """Python's memory at most while a picture's JSON is read, and why it is refused."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    headers = [(b"content-type", JSON.encode())]
    request = Request({"type": "http", "headers": headers}, receive)
    tracemalloc.start()
    try:
        with pytest.raises(ApiError) as caught:
            asyncio.run(read_pictures(request, 128))
        return tracemalloc.get_traced_memory()[1], caught.value
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_body_of_a_picture_takes_no_more_memory_than_its_size(body: str) -> None:
    peak, _ = peak_bytes(body.encode())
    assert peak < len(body) + 300_000, "no copy of it, and nothing for each of its items"


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/models/nothing"])
def test_a_large_wrong_body_is_refused_where_text_is_expected(
    server: Running, body: str, path: str
) -> None:
    response = server.client.post(path, content=body, headers={"content-type": JSON})
    assert response.status_code in (400, 404, 413)
    assert server.client.get("/health/live").status_code == 200


@pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.__name__)
@pytest.mark.parametrize("item", [0, "", None, {}, []], ids=repr)
def test_no_more_errors_are_built_than_a_schema_has_fields(schema: type[Body], item: Any) -> None:
    for value in [item] * 1000, {str(i): item for i in range(1000)}:
        with pytest.raises(ValidationError) as caught:
            schema.model_validate(dict.fromkeys(schema.model_fields, value))
        assert caught.value.error_count() <= len(schema.model_fields)


def test_an_unknown_field_is_found_before_anything_is_checked() -> None:
    for schema in schemas():
        wrong = dict.fromkeys(schema.model_fields, object()) | {"colour": 1}
        with pytest.raises(RequestError, match="no field 'colour'"):
            known(wrong, schema)


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_the_longest_prompt_that_a_model_reads_fits_however_it_is_escaped(
    server: Running, models: Models, model: str
) -> None:
    text = next(m for m in models.text.values() if m.manifest.family == model)
    prompt = "\U0001f600" * (text.manifest.context * text.longest_token)
    biases = {str(token): 1 / 3 for token in range(300)}
    stops = ["\U0001f600" * 64] * 4
    given = {"prompt": prompt, "model": model, "stop": stops, "logit_bias": biases}
    body = json.dumps(given, indent=4)
    assert body.count("\\u") == 2 * (len(prompt) + 4 * 64)
    assert len(body) <= text_bytes(models, 1 << 30) < 1 << 20
    response = post(server, "/generate", body.encode())
    assert response.status_code == 422
    assert "tokens; " in response.json()["error"]["message"]


# ---------------------------------------------------------------------- JSON


def post(server: Running, path: str, body: bytes, **headers: str) -> httpx.Response:
    return server.client.post(path, content=body, headers={"content-type": JSON, **headers})


@pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.__name__)
def test_null_is_as_if_absent_for_every_field_that_may_be_absent(schema: type[Body]) -> None:
    fields = schema.model_fields
    optional = {name for name, field in fields.items() if not field.is_required()}
    assert set(known(dict.fromkeys(fields), schema)) == set(fields) - optional


@pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.__name__)
def test_null_gives_the_same_answer_as_nothing(server: Running, schema: type[Body]) -> None:
    examples: dict[str, tuple[str, dict[str, Any]]] = {
        "GenerateRequest": ("/generate", {"prompt": "a", "max_tokens": 2, "seed": 1}),
        "ClassifyRequest": ("/classify", {"image": base64.b64encode(png()).decode()}),
        "CompletionRequest": ("/v1/completions", {"prompt": "a", "max_tokens": 2, "seed": 1}),
        "InferRequest": ("/v2/models/gpt2/infer", {"inputs": [TENSOR], "parameters": {"seed": 1}}),
        "TokenizeRequest": ("/tokenize", {"prompt": "a"}),
        "DetokenizeRequest": ("/detokenize", {"tokens": [1]}),
    }
    path, given = examples[schema.__name__]
    nulls = {name: None for name in schema.model_fields if name not in given}
    answers = [server.client.post(path, json=body) for body in (given, given | nulls)]
    assert nulls
    assert [answer.status_code for answer in answers] == [200, 200]
    told = [{**answer.json(), "id": None, "created": None} for answer in answers]
    assert told[0] == told[1]


def test_a_byte_order_mark_before_the_json_is_passed_over(server: Running) -> None:
    body = b'\xef\xbb\xbf{"prompt": "a", "max_tokens": 1}'
    assert post(server, "/generate", body).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b'{"prompt": "a"', "it ends too early (line 1 column 14)"),
        (b'{"prompt": a}', "a value is missing or no JSON (line 1 column 12)"),
        (b'{"prompt" "a"}', "a comma, colon or bracket is missing"),
        (b'{"prompt": "a",}', "a comma too much"),
        (b'{"prompt": "a"} x', "something follows its end"),
        (b"{'prompt': 1}", "names stand in double quotes"),
        (b'{"prompt": "a\nb"}', "escape it"),
        (b'{"prompt": "\\x"}', "an escape that JSON does not have"),
        (b'{"prompt": "\\ud800"}', "half a character"),
        (b'{"prompt": "\\ud800\\u0041"}', "half a character"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b'{"top_k": 01}', "a number that JSON does not have"),
        (b'{"top_k": ' + b"1" * 5000 + b"}", "too many digits"),
        (b"[" * 9999, "too many brackets"),
    ],
)
def test_what_is_no_json_is_told_in_our_words(body: bytes, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body)
    assert caught.value.message.startswith("the body is not JSON: ")
    assert words in caught.value.message


@pytest.mark.parametrize("path", ["/generate", "/classify"])
@pytest.mark.parametrize("kind", [JSON, "multipart/form-data; boundary=x"])
def test_a_compressed_body_is_a_415_that_names_its_encoding(
    server: Running, path: str, kind: str
) -> None:
    headers = {"content-type": kind, "content-encoding": "gzip"}
    response = server.client.post(path, content=b"\x1f\x8b", headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (415, "Content-Encoding")
    plain = {"content-type": JSON, "content-encoding": "identity"}
    assert server.client.post(path, content=b"{}", headers=plain).status_code == 422


# ---------------------------------------------------------------------- base64

PICTURE = bytes(range(256)) + b"?"
TEXT = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT + "\n",
        base64.encodebytes(PICTURE).decode(),
        base64.encodebytes(PICTURE).decode().replace("\n", "\r\n"),
        base64.urlsafe_b64encode(PICTURE).decode(),
        TEXT.rstrip("="),
        "data:image/png;base64," + TEXT,
        "DATA:image/svg+xml;charset=utf-8;Base64," + TEXT,
        "data:;base64," + base64.urlsafe_b64encode(PICTURE).decode().rstrip("="),
    ],
)
def test_base64_is_read_however_clients_write_it(text: str) -> None:
    assert encoded.decode(text) == PICTURE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "characters are missing"),
        ("aaaa=aaa", "not in its alphabet"),
        ("aa!a", "not in its alphabet"),
        ("häh=", "not in its alphabet"),
        ("data:image/png," + TEXT, "must begin like data:image/png;base64,"),
        ("data:image/png;base64" + TEXT, "must begin like data:image/png;base64,"),
        ("data:" + "x" * 999 + ";base64," + TEXT, "must begin like"),
    ],
)
def test_what_is_no_base64_is_refused_with_its_cause(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        encoded.decode(text)


# ---------------------------------------------------------------------- forms


def form(name: str = 'name="file"; filename="x.png"', data: bytes = b"") -> bytes:
    head = f"--B\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode()
    return head + (data or png()) + b"\r\n--B--\r\n"


TWICE = form('name="top_k"', b"1").removesuffix(b"--B--\r\n") + form('name="top_k"', b"2")


def post_form(server: Running, body: bytes, parameters: str = "boundary=B") -> httpx.Response:
    headers = {"content-type": f"multipart/form-data; {parameters}"}
    return server.client.post("/classify", content=body, headers=headers)


@pytest.mark.parametrize(
    "charset", ["undefined", "idna", "punycode", "utf-16", "rot13", "unicode_escape", "none", ""]
)
def test_a_charset_of_a_form_runs_no_codec(server: Running, charset: str) -> None:
    for parameters in f"boundary=B; charset={charset}", f'charset="{charset}"; boundary="B"':
        assert post_form(server, form(), parameters).status_code == 200
    assert post_form(server, form(), f"boundary=B; charset*=utf-8''{charset}").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        (form('name="file"'), 422, "file", "file needs a filename"),
        (form("name=\"file\"; filename*=utf-8''x"), 422, "file", "file needs a filename"),
        (form('name="top_k"', b"1" * 17), 422, "top_k", "more than 16 bytes"),
        (form('name="h\u00e4h"', b"1"), 422, "häh", "the fields are file, top_k"),
        (form("nothing"), 400, None, "a part has no name"),
        (TWICE, 400, None, "only file more than once"),
        (b"--B\r\n\x00\r\n", 400, None, "does not follow its boundary"),
        (form()[:-9], 400, None, "ends too early"),
        (b"", 400, None, "ends too early"),
    ],
)
def test_what_is_wrong_with_a_form_is_told_in_our_words(
    server: Running, body: bytes, status: int, param: str | None, words: str
) -> None:
    response = post_form(server, body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert words in error["message"]


@pytest.mark.parametrize(
    "parameters", ["x=y", "boundary=", "boundary=" + "B" * 71, 'boundary="B\\"x"']
)
def test_a_form_without_a_good_boundary_is_a_400(server: Running, parameters: str) -> None:
    response = post_form(server, form(), parameters)
    assert response.status_code == 400
    assert "boundary" in response.json()["error"]["message"]


# ---------------------------------------------------------------------- frames


def test_a_frame_is_one_line_however_a_client_splits_lines() -> None:
    ends = [chr(c) for c in range(0x3000) if len(f"a{chr(c)}b".splitlines()) > 1]
    assert {"\x85", "\u2028", "\u2029", "\x0b", "\x1c"} < set(ends)
    text = "a" + "b".join(ends)
    for logprobs in False, True:
        telling = Telling(tiny_tokenizer(), logprobs)
        frame = telling.frame(Piece(text, None, [-1.0], [1]), {})
        (line, empty) = frame.decode().splitlines()
        assert empty == ""
        assert json.loads(line.removeprefix("data: "))["text"] == text
