"""The body of a request -> checked values. Everything a client can get wrong is an ApiError.

What is wrong in a body costs no more than what is right: its size is limited by its route
(middleware.py), unknown fields are looked up before anything is checked, a list is left at its
first bad item, and so no more errors are built than a schema has fields.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from serving.api import encoded
from serving.api.forms import Files, read_form, read_query, too_many
from serving.api.jobs.together import naming
from serving.api.schemas import ClassifyRequest
from serving.errors import ApiError, BodyError, ImageError, MediaTypeError, RequestError
from serving.pictures.arrays import MAGIC

JSON = "application/json"
MULTIPART = "multipart/form-data"
NPY = "application/x-npy"
ARRAYS = (NPY, "application/octet-stream")
IMAGE = "image"
SHOWN_CHARACTERS = 64
MAX_COMMAS = 64
"""In the JSON of a picture: its base64 has none, and n values need n - 1."""
COMMAS_OF_PICTURE = 2
"""One of a data URL, and one behind it in a list."""
FIELDS = ", ".join(ClassifyRequest.model_fields)
BOM = b"\xef\xbb\xbf"
PLACE = re.compile(r" at (line \d+ column \d+)$")
CAUSES = {
    "EOF": "it ends too early",
    "expected value": "a value is missing or no JSON",
    "expected": "a comma, colon or bracket is missing",
    "trailing comma": "a comma too much",
    "trailing characters": "something follows its end",
    "key must be a string": "names stand in double quotes",
    "recursion limit": "too many brackets in each other",
    "control character": "a line break or control character within a string: escape it",
    "invalid escape": "an escape that JSON does not have",
    "unexpected end of hex escape": "half a character, as \\ud800 alone",
    "lone leading surrogate": "half a character, as \\ud800 alone",
    "invalid unicode": "it is not UTF-8",
    "number out of range": "a number of too many digits",
    "invalid number": "a number that JSON does not have",
}
"""How messages of the parser begin -> what we say."""

B = TypeVar("B", bound=BaseModel)


def media_type(request: Request) -> str:
    """Raises MediaTypeError for a body that is compressed."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise MediaTypeError(
            "send the body as it is, without Content-Encoding: it is not decompressed here",
            "Content-Encoding",
        )
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, schema: type[B]) -> B:
    """A JSON object that fits the schema; null is as if absent where a field may be absent.

    Raises BodyError, RequestError or MediaTypeError.
    """
    if media_type(request) != JSON:
        raise MediaTypeError(f"send the body with Content-Type: {JSON}", "Content-Type")
    given = known(parse(await request.body()), schema)
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise explain(error) from error


def parse(body: bytes) -> dict[str, Any]:
    """Raises BodyError, or RequestError when the JSON is no object."""
    if not body.strip():
        raise BodyError("the body is not JSON: it is empty, send a JSON object")
    try:
        value = from_json(body.removeprefix(BOM), allow_inf_nan=False)
    except ValueError as error:
        raise BodyError(f"the body is not JSON: {_cause(str(error))}") from error
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def _cause(message: str) -> str:
    place = PLACE.search(message)
    cause = next((ours for theirs, ours in CAUSES.items() if message.startswith(theirs)), "")
    return f"{cause or 'it is malformed'} ({place[1]})" if place else cause or "it is malformed"


def known(given: Mapping[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """What is given, without nulls for fields that may be absent. Raises RequestError for a field
    that a strict schema does not have."""
    fields = schema.model_fields
    if schema.model_config.get("extra") == "forbid":
        unknown = next((name for name in given if name not in fields), None)
        if unknown is not None:
            param = unknown[:SHOWN_CHARACTERS]
            raise RequestError(
                f"there is no field {param!r}: the fields are {', '.join(fields)}", param
            )
    return {
        name: value
        for name, value in given.items()
        if value is not None or (name in fields and fields[name].is_required())
    }


def explain(error: ValidationError) -> ApiError:
    """The first thing that is wrong, in words."""
    first = error.errors(include_input=False, include_url=False)[0]
    param = ".".join(map(str, first["loc"]))[:SHOWN_CHARACTERS]
    message = first["msg"][:1].lower() + first["msg"][1:]
    return RequestError(f"{param}: {message}" if param else message, param or None)


async def read_pictures(request: Request, most: int) -> Files:
    """From JSON, a multipart form or an .npy file; `most` is how many there may be."""
    kind = media_type(request)
    if kind == JSON:
        if (await request.body()).count(b",") > MAX_COMMAS + most * COMMAS_OF_PICTURE:
            raise RequestError(f"the body has too many values: the fields are {FIELDS}")
        return _in_base64(await read_json(request, ClassifyRequest), most)
    if kind == MULTIPART:
        return await read_form(request, most)
    if kind in ARRAYS:
        top_k, model = read_query(request)
        body = await request.body()
        if not body.startswith(MAGIC):
            raise ImageError("the body is no .npy file: send other files in a form, or in JSON")
        return Files([body], "", False, top_k, model)
    raise MediaTypeError(
        f"send a form ({MULTIPART}) with the field file, JSON ({JSON}) with the field image, or "
        f"an .npy file ({NPY})",
        "Content-Type",
    )


def _in_base64(body: ClassifyRequest, most: int) -> Files:
    if isinstance(body.image, str):
        return Files([encoded.decode(body.image)], IMAGE, False, body.top_k, body.model)
    if len(body.image) > most:
        raise too_many(IMAGE, most)
    data: list[bytes] = []
    for number, image in enumerate(body.image):
        with naming(f"{IMAGE}[{number}]", IMAGE):
            data.append(encoded.decode(image))
    return Files(data, IMAGE, True, body.top_k, body.model)
