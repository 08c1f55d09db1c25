"""The body of a request -> Call; tensors -> the body of an answer.

    JSON                                 all of a body without Inference-Header-Content-Length;
    bytes of tensors, in their order     with it the JSON has so many bytes, and these follow

What is wrong in a body costs no more than what is right: the JSON may have so many values (MOST),
its parts are checked one by one, and a tensor's bytes are looked at when its shape is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from serving.api.oip.schemas import (
    InferRequest,
    InferResponse,
    InputParameters,
    InputTensor,
    OutputParameters,
    OutputTensor,
    RequestedOutput,
    TensorMetadata,
    checked,
)
from serving.api.oip.tensors import (
    Tensor,
    bytes_elements,
    levels_of_bytes,
    levels_of_json,
    texts_of_json,
)
from serving.api.requests import JSON, parse
from serving.errors import BodyError, RequestError

OCTETS = "application/octet-stream"
HEADER = "Inference-Header-Content-Length"
MAX_DIGITS = 16
"""Of the header."""
MOST = {b",": 1 << 15, b"[": 1 << 12, b"{": 1 << 12, b'"': 1 << 12}
"""Of marks in the JSON of a request, in its texts too: the pixels of ten pictures have fewer."""
BINARY_OUTPUT = "binary_data_output"


@dataclass(frozen=True, slots=True)
class Interface:
    """What a model takes, one of `inputs` in a request, and gives."""

    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]
    parameters: Sequence[str]
    max_rows: int


@dataclass(frozen=True, slots=True)
class Asked:
    """An output that is to be answered, as bytes or in JSON."""

    name: str
    binary: bool
    classes: int | None
    """So many of the best instead of all values."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that fits an interface."""

    id: str | None
    input: Tensor
    outputs: Sequence[Asked]
    parameters: dict[str, Any]


# ---------------------------------------------------------------------- a request


def read(body: bytes, header: str | None, interface: Interface) -> Call:
    """`header` is Inference-Header-Content-Length, where it was sent.

    Raises BodyError or RequestError.
    """
    size = _json_bytes(header, len(body))
    _check_marks(body, size)
    given = checked(parse(body[:size]), InferRequest)
    parameters = {name: value for name, value in given.parameters.items() if value is not None}
    binary = parameters.pop(BINARY_OUTPUT, False)
    if not isinstance(binary, bool):
        raise RequestError(f"parameters: {BINARY_OUTPUT} is true or false", BINARY_OUTPUT)
    unknown = next((name for name in parameters if name not in interface.parameters), None)
    if unknown is not None:
        names = ", ".join((*interface.parameters, BINARY_OUTPUT))
        raise RequestError(f"parameters: there is no {unknown[:64]!r}, only {names}", "parameters")
    return Call(
        given.id,
        _input(given, memoryview(body)[size:], interface),
        _outputs(given, binary, interface),
        parameters,
    )


def _json_bytes(header: str | None, body_bytes: int) -> int:
    if header is None:
        return body_bytes
    if not (header.isascii() and header.isdigit() and len(header) <= MAX_DIGITS):
        raise BodyError(f"{HEADER} must be the number of bytes that the JSON has", HEADER)
    if int(header) > body_bytes:
        raise BodyError(f"{HEADER} is {int(header)}, but the body has {body_bytes} bytes", HEADER)
    return int(header)


def _check_marks(body: bytes, size: int) -> None:
    """Raises RequestError for more values than a request can need: each is an object in memory."""
    for mark, most in MOST.items():
        if body.count(mark, 0, size) > most:
            raise RequestError(
                f"the JSON has the mark {mark.decode()} more than {most} times: send the data as "
                f"bytes behind it, with binary_data_size and {HEADER}"
            )


def _input(given: InferRequest, binary: memoryview, interface: Interface) -> Tensor:
    taken = {tensor.name: tensor for tensor in interface.inputs}
    if len(given.inputs) != 1:
        raise RequestError(
            f"the request has {len(given.inputs)} inputs: send one, {' or '.join(taken)}", "inputs"
        )
    tensor = checked(given.inputs[0], InputTensor, "inputs[0]")
    if tensor.name not in taken:
        raise RequestError(
            f"there is no input {tensor.name[:64]!r}: send {' or '.join(taken)}", "inputs"
        )
    _check_form(tensor, taken[tensor.name], interface.max_rows)
    size = checked(tensor.parameters, InputParameters, f"{tensor.name}.parameters").binary_data_size
    if (size is None) == (tensor.data is None):
        raise RequestError(
            f"{tensor.name} needs either data, or its bytes behind the JSON and their number as "
            "parameters.binary_data_size",
            tensor.name,
        )
    if len(binary) != (size or 0):
        raise RequestError(
            f"{len(binary)} bytes follow the JSON, where binary_data_size asks for {size or 0}: "
            f"{HEADER} is the length of the JSON alone",
            tensor.name,
        )
    elements = _elements(tensor, binary)
    return Tensor(tensor.name, tuple(tensor.shape), elements)


def _check_form(tensor: InputTensor, taken: TensorMetadata, max_rows: int) -> None:
    """Raises RequestError unless datatype and shape are those that are taken."""
    name, shape = tensor.name, tensor.shape
    if tensor.datatype != taken.datatype:
        raise RequestError(
            f"{name} has the datatype {tensor.datatype[:64]!r}: send {taken.datatype}", name
        )
    rows, *sizes = taken.shape
    if len(shape) != len(taken.shape) or shape[1:] != sizes:
        raise RequestError(f"{name} has the shape {shape}: send {[rows, *sizes]}", name)
    if not 1 <= shape[0] <= max_rows:
        raise RequestError(
            f"{name} has the shape {shape}: a request has 1 to {max_rows} rows here", name
        )


def _elements(tensor: InputTensor, binary: memoryview) -> Any:
    shape, name = tensor.shape, tensor.name
    if tensor.datatype == "BYTES":
        if tensor.data is None:
            return bytes_elements(binary, shape, name)
        return texts_of_json(tensor.data, shape, name)
    if tensor.data is None:
        return levels_of_bytes(binary, shape, name)
    return levels_of_json(tensor.data, shape, name)


def _outputs(given: InferRequest, binary: bool, interface: Interface) -> list[Asked]:
    """All of them where the request names none."""
    names = [tensor.name for tensor in interface.outputs]
    if not given.outputs:
        return [Asked(name, binary, None) for name in names]
    asked: list[Asked] = []
    for number, item in enumerate(given.outputs):
        output = checked(item, RequestedOutput, f"outputs[{number}]")
        if output.name not in names:
            raise RequestError(
                f"there is no output {output.name[:64]!r}, or it is asked for twice: there are "
                f"{', '.join(tensor.name for tensor in interface.outputs)}",
                "outputs",
            )
        names.remove(output.name)
        how = checked(output.parameters, OutputParameters, f"outputs[{number}].parameters")
        as_bytes = binary if how.binary_data is None else how.binary_data
        asked.append(Asked(output.name, as_bytes, how.classification))
    return asked


# ---------------------------------------------------------------------- an answer


def answer(response: InferResponse, tensors: Sequence[Tensor], asked: Sequence[Asked]) -> Response:
    """`response` has no outputs yet; `tensors` are those asked for, in their order."""
    told, behind = [], []
    for tensor, how in zip(tensors, asked, strict=True):
        shown = OutputTensor(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape))
        if how.binary:
            behind.append(tensor.to_bytes())
            shown.parameters = {"binary_data_size": len(behind[-1])}
        else:
            shown.data = tensor.to_json()
        told.append(shown)
    head = response.model_copy(update={"outputs": told}).model_dump_json(exclude_none=True)
    if not behind:
        return Response(head, media_type=JSON)
    front = head.encode()
    return Response(
        b"".join((front, *behind)), headers={HEADER: str(len(front))}, media_type=OCTETS
    )
