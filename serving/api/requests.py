"""The body of a request -> checked values. Everything a client can get wrong is an ApiError."""

import base64
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.api.schemas import ClassifyRequest
from serving.errors import ApiError, BodyError, MediaTypeError, RequestError

JSON = "application/json"
MULTIPART = "multipart/form-data"
SHOWN_CHARACTERS = 64
MAX_FIELD_BYTES = 16

B = TypeVar("B", bound=BaseModel)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, schema: type[B]) -> B:
    """Raises BodyError, RequestError or MediaTypeError."""
    if media_type(request) != JSON:
        raise MediaTypeError(f"send the body with Content-Type: {JSON}", "Content-Type")
    try:
        return schema.model_validate_json(await request.body())
    except ValidationError as error:
        raise explain(error, schema) from error


def explain(error: ValidationError, schema: type[BaseModel]) -> ApiError:
    """The first thing that is wrong, in words."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        return BodyError(f"the body is not JSON: {first['ctx']['error']}")
    param = ".".join(map(str, first["loc"]))[:SHOWN_CHARACTERS]
    if first["type"] == "extra_forbidden":
        known = ", ".join(schema.model_fields)
        return RequestError(f"there is no field {param!r}: the fields are {known}", param)
    if not param:
        return RequestError("the body must be a JSON object")
    message = first["msg"][:1].lower() + first["msg"][1:]
    return RequestError(f"{param}: {message}", param)


async def read_picture(request: Request, max_bytes: int) -> tuple[bytes, int]:
    """The bytes of a picture, from JSON or a multipart form, and how many classes to list."""
    kind = media_type(request)
    if kind == JSON:
        body = await read_json(request, ClassifyRequest)
        try:
            return base64.b64decode(body.image, validate=True), body.top_k
        except ValueError as error:
            raise RequestError(f"image is not base64: {error}", "image") from error
    if kind == MULTIPART:
        return await _read_form(request, max_bytes)
    raise MediaTypeError(
        f"send a form ({MULTIPART}) with the field file, or JSON ({JSON}) with the field image",
        "Content-Type",
    )


async def _read_form(request: Request, max_bytes: int) -> tuple[bytes, int]:
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=1,
        max_fields=1,
        max_part_size=MAX_FIELD_BYTES,
    )
    parser.spool_max_size = max_bytes  # stays in memory: the file system may be read-only
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BodyError(f"the form cannot be read: {error.message}") from error
    try:
        return await _picture(form), _top_k(form.get("top_k"))
    finally:
        await form.close()


async def _picture(form: FormData) -> bytes:
    unknown = [name for name in form if name not in ("file", "top_k")]
    if unknown:
        param = unknown[0][:SHOWN_CHARACTERS]
        raise RequestError(f"there is no field {param!r}: the fields are file, top_k", param)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise RequestError("the form needs a picture in the field file", "file")
    return await file.read()


def _top_k(value: str | UploadFile | None) -> int:
    if value is None:
        return int(ClassifyRequest.model_fields["top_k"].default)
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or int(value) < 1:
        raise RequestError("top_k must be a whole number, 1 or more", "top_k")
    return int(value)
