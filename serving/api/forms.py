"""A multipart form with pictures -> what it asks. Names are UTF-8, whatever charset is named."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.api.schemas import ClassifyRequest
from serving.errors import BodyError, RequestError

FILE, TOP_K, MODEL = "file", "top_k", "model"
MAX_BYTES = {TOP_K: 16, MODEL: 1024}
FIELDS = (FILE, *MAX_BYTES)
SHOWN_CHARACTERS = 64
BOUNDARY = re.compile(rb"[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]", re.ASCII)
"""RFC 2046, 5.1.1."""
CAUSES = {
    "Too many": f"it has the fields {', '.join(FIELDS)}, and only {FILE} more than once",
    "The Content-Disposition": "a part has no name: Content-Disposition: form-data; name=...",
}
"""How messages of the parser begin -> what we say."""


class Files(NamedTuple):
    """Files with pictures, how many classes to list, and who looks."""

    data: Sequence[bytes]
    field: str
    """In which they came."""
    listed: bool
    """Whether they are answered with a list."""
    top_k: int
    model: str


class _Form(MultiPartParser):
    """Refuses a part as soon as its headers say that it is none of ours."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ended = False
        """Whether its last boundary came."""
        self._named: set[str] = set()

    def on_end(self) -> None:
        self.ended = True

    def close(self) -> None:
        for file in self._files_to_close_on_error:
            file.close()

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if part.field_name not in FIELDS:
            param = part.field_name[:SHOWN_CHARACTERS]
            raise RequestError(
                f"there is no field {param!r}: the fields are {', '.join(FIELDS)}", param
            )
        if part.field_name in self._named and part.field_name != FILE:
            raise MultiPartException("Too many of a name.")
        self._named.add(part.field_name)
        if part.field_name == FILE and part.file is None:
            raise RequestError(
                f"{FILE} needs a filename, as in curl -F {FILE}=@picture.png: without one it is "
                "text and no picture",
                FILE,
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        name, size = part.field_name, len(part.data) + end - start
        if part.file is None and size > MAX_BYTES[name]:
            raise RequestError(f"{name} has more than {MAX_BYTES[name]} bytes", name)
        super().on_part_data(data, start, end)


async def read_form(request: Request, max_bytes: int, max_files: int) -> Files:
    """Raises BodyError or RequestError."""
    headers, most = _headers(request), len(MAX_BYTES)
    parser = _Form(headers, request.stream(), max_files=max_files, max_fields=most)
    parser.spool_max_size = max_bytes  # stays in memory: the file system may be read-only
    try:
        form = await parser.parse()
        if not parser.ended:
            raise MultiPartException("")
        data = [await file.read() for file in _files(form)]
        return Files(data, FILE, len(data) > 1, *_asked(form))
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise too_many(FILE, max_files) from error
        causes = (ours for theirs, ours in CAUSES.items() if error.message.startswith(theirs))
        cause = next(causes, "it does not follow its boundary, or ends too early")
        raise BodyError(f"the form cannot be read: {cause}") from error
    finally:
        parser.close()


def _headers(request: Request) -> Headers:
    """A Content-Type with nothing but the boundary: a charset would name a codec to run."""
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    if not BOUNDARY.fullmatch(boundary):
        raise BodyError("the form cannot be read: its Content-Type needs a boundary (RFC 2046)")
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary.decode()}"'})


def read_query(request: Request) -> tuple[int, str]:
    """How many classes to list, and who looks, where the body is a file and nothing else. Raises
    RequestError."""
    query = request.query_params
    for name, value in query.multi_items():
        if name not in MAX_BYTES:
            param = name[:SHOWN_CHARACTERS]
            raise RequestError(
                f"there is no field {param!r} in the query: there are {', '.join(MAX_BYTES)}", param
            )
        if len(value) > MAX_BYTES[name]:
            raise RequestError(f"{name} has more than {MAX_BYTES[name]} characters", name)
    return _asked(query)


def too_many(field: str, most: int) -> RequestError:
    return RequestError(
        f"the request has more than {most} pictures: send the others in another request", field
    )


def _files(form: FormData) -> list[UploadFile]:
    files = [file for file in form.getlist(FILE) if isinstance(file, UploadFile)]
    if not files:
        raise RequestError(f"the form needs a picture in the field {FILE}", FILE)
    return files


def _asked(given: Mapping[str, str | UploadFile]) -> tuple[int, str]:
    return _top_k(given.get(TOP_K)), _model(given.get(MODEL))


def _top_k(value: str | UploadFile | None) -> int:
    if value is None:
        return int(ClassifyRequest.model_fields[TOP_K].default)
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or int(value) < 1:
        raise RequestError(f"{TOP_K} must be a whole number, 1 or more", TOP_K)
    return int(value)


def _model(value: str | UploadFile | None) -> str:
    if isinstance(value, UploadFile):
        raise RequestError(f"{MODEL} is a file, not the name of a model", MODEL)
    return str(ClassifyRequest.model_fields[MODEL].default) if value is None else value
