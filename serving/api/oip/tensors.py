"""Elements of a tensor <-> JSON, or bytes: row-major and little-endian. An element of BYTES is a
text in JSON; as bytes it stands behind its length, of 4 bytes.

Shape legend: E elements.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.api.oip.schemas import Datatype
from serving.errors import RequestError

DATATYPES: dict[str, Datatype] = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """`elements` is a list of texts or bytes of a tensor of BYTES, else an array of `shape`."""

    name: str
    shape: tuple[int, ...]
    elements: Sequence[str | bytes] | NDArray[Any]

    @staticmethod
    def of(name: str, elements: Sequence[str] | NDArray[Any]) -> "Tensor":
        """Texts [E], or an array."""
        shape = elements.shape if isinstance(elements, np.ndarray) else (len(elements),)
        return Tensor(name, shape, elements)

    @property
    def datatype(self) -> Datatype:
        if isinstance(self.elements, np.ndarray):
            return DATATYPES[self.elements.dtype.name]
        return "BYTES"

    def to_json(self) -> list[Any]:
        if isinstance(self.elements, np.ndarray):
            values: list[Any] = self.elements.ravel().tolist()
            return values
        return list(self.elements)

    def to_bytes(self) -> bytes:
        if isinstance(self.elements, np.ndarray):
            return self.elements.astype(self.elements.dtype.newbyteorder("<")).tobytes()
        data = (e.encode() if isinstance(e, str) else e for e in self.elements)
        return b"".join(len(e).to_bytes(LENGTH_BYTES, "little") + e for e in data)


# ---------------------------------------------------------------------- what a request sends


def texts_of_json(values: Sequence[Any], shape: Sequence[int], name: str) -> list[str]:
    """The elements of a tensor of BYTES [E]. Raises RequestError."""
    _check_count(name, "values", len(values), prod(shape))
    if not all(isinstance(value, str) for value in values):
        raise RequestError(f"{name}: all its data must be strings, as its datatype is BYTES", name)
    return list(values)


def bytes_elements(data: memoryview, shape: Sequence[int], name: str) -> list[bytes]:
    """The elements of a tensor of BYTES [E]. Raises RequestError."""
    elements, at = [], 0
    for number in range(prod(shape)):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or at > len(data):
            raise RequestError(
                f"{name}: its bytes end within element {number}; each stands behind its length, "
                f"of {LENGTH_BYTES} bytes, little-endian",
                name,
            )
        elements.append(bytes(data[start:at]))
    _check_count(name, "bytes", len(data), at)
    return elements


def levels_of_json(values: Sequence[Any], shape: Sequence[int], name: str) -> NDArray[np.uint8]:
    """A tensor of UINT8, given flat or nested. Raises RequestError."""
    nested = bool(values) and isinstance(values[0], list)
    rows = list(_rows(values, shape, name)) if nested else [values]
    _check_count(name, "values", sum(map(len, rows)), prod(shape))
    if any(set(map(type, row)) - {int} for row in rows):
        raise _no_levels(name)
    try:
        return levels_of_bytes(memoryview(b"".join(map(bytes, rows))), shape, name)
    except ValueError as error:  # of bytes(), for what is below 0 or above 255
        raise _no_levels(name) from error


def levels_of_bytes(data: memoryview, shape: Sequence[int], name: str) -> NDArray[np.uint8]:
    """A tensor of UINT8. Raises RequestError."""
    _check_count(name, "bytes", len(data), prod(shape))
    return np.frombuffer(data, np.uint8).reshape(shape)


def _rows(values: Any, shape: Sequence[int], name: str) -> Iterator[list[Any]]:
    """The innermost lists of a nested one. Raises RequestError unless it has the shape."""
    if not isinstance(values, list) or len(values) != shape[0]:
        raise RequestError(
            f"{name}: its data is neither flat nor nested as its shape {list(shape)}", name
        )
    if len(shape) == 1:
        yield values
        return
    for value in values:
        yield from _rows(value, shape[1:], name)


def _check_count(name: str, what: str, found: int, asked: int) -> None:
    if found != asked:
        raise RequestError(f"{name}: it has {found} {what}, where its shape asks for {asked}", name)


def _no_levels(name: str) -> RequestError:
    return RequestError(
        f"{name}: all its data must be whole numbers from 0 to 255, as its datatype is UINT8", name
    )
