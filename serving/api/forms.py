"""A multipart form with pictures -> what it asks. Names are UTF-8, whatever charset is named."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from serving.api.schemas import ClassifyRequest
from serving.errors import BodyError, RequestError

FILE, TOP_K, MODEL = "file", "top_k", "model"
MAX_BYTES = {TOP_K: 16, MODEL: 1024}
FIELDS = (FILE, *MAX_BYTES)
SHOWN_CHARACTERS = 64
BOUNDARY = re.compile(rb"[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]", re.ASCII)
"""RFC 2046, 5.1.1."""
REPEATED = f"it has the fields {', '.join(FIELDS)}, and only {FILE} more than once"
NO_NAME = "a part has no name: Content-Disposition: form-data; name=..."
NO_FORM = "it does not follow its boundary, or ends too early"


class Files(NamedTuple):
    """Files with pictures, how many classes to list, and who looks."""

    data: Sequence[bytes]
    field: str
    """In which they came."""
    listed: bool
    """Whether they are answered with a list."""
    top_k: int
    model: str


class _Form:
    """Parts as they come, in memory. One is refused as soon as its headers say that it is none of
    ours."""

    def __init__(self, boundary: bytes, max_files: int) -> None:
        self.files: list[bytearray] = []
        self.texts: dict[str, bytearray] = {}
        self.ended = False
        """Whether its last boundary came."""
        self._max_files = max_files
        self._name, self._part = "", bytearray()
        self._header, self._value, self._disposition = b"", b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_goes_on,
                "on_header_value": self._value_goes_on,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Raises BodyError or RequestError."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _unreadable(NO_FORM) from error

    def _begin(self) -> None:
        self._disposition = b""

    def _header_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _value_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        told = parse_options_header(self._disposition)[1]
        if b"name" not in told:
            raise _unreadable(NO_NAME)
        self._name = name = told[b"name"].decode(errors="replace")
        if name not in FIELDS:
            param = name[:SHOWN_CHARACTERS]
            raise RequestError(
                f"there is no field {param!r}: the fields are {', '.join(FIELDS)}", param
            )
        if name in self.texts:
            raise _unreadable(REPEATED)
        if name == FILE and b"filename" not in told:
            raise RequestError(
                f"{FILE} needs a filename, as in curl -F {FILE}=@picture.png: without one it is "
                "text and no picture",
                FILE,
            )
        if name != FILE and b"filename" in told:
            raise RequestError(f"{name} is a file: send it as text, without a filename", name)
        if len(self.files) == self._max_files and name == FILE:
            raise too_many(FILE, self._max_files)
        self._part = bytearray()
        if name == FILE:
            self.files.append(self._part)
        else:
            self.texts[name] = self._part

    def _data(self, data: bytes, start: int, end: int) -> None:
        most = MAX_BYTES.get(self._name)
        if most is not None and len(self._part) + end - start > most:
            raise RequestError(f"{self._name} has more than {most} bytes", self._name)
        self._part += data[start:end]

    def _end(self) -> None:
        self.ended = True


async def read_form(request: Request, max_files: int) -> Files:
    """Raises BodyError or RequestError."""
    form = _Form(_boundary(request), max_files)
    async for data in request.stream():
        form.write(data)
    if not form.ended:
        raise _unreadable(NO_FORM)
    if not form.files:
        raise RequestError(f"the form needs a picture in the field {FILE}", FILE)
    texts = {name: text.decode(errors="replace") for name, text in form.texts.items()}
    return Files([*map(bytes, form.files)], FILE, len(form.files) > 1, *_asked(texts))


def _boundary(request: Request) -> bytes:
    """Whatever charset is named beside it: that would name a codec to run."""
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    if not BOUNDARY.fullmatch(boundary):
        raise _unreadable("its Content-Type needs a boundary (RFC 2046)")
    return boundary


def _unreadable(cause: str) -> BodyError:
    return BodyError(f"the form cannot be read: {cause}")


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


def _asked(given: Mapping[str, str]) -> tuple[int, str]:
    return _top_k(given.get(TOP_K)), _model(given.get(MODEL))


def _top_k(value: str | None) -> int:
    if value is None:
        return int(ClassifyRequest.model_fields[TOP_K].default)
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise RequestError(f"{TOP_K} must be a whole number, 1 or more", TOP_K)
    return int(value)


def _model(value: str | None) -> str:
    return str(ClassifyRequest.model_fields[MODEL].default) if value is None else value
