"""Cells of a table -> stories, pixels and labels, none of them other than it was written.

A whole column is refused by its type, a single cell by its row; both are a DataError.
Shape legend: Y rows, X columns, C colour channels.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from luminanet.errors import DataError
from luminanet.untrusted import line, shown

SIZE = (32, 32)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pictures of 8 bits a channel, which `convert` takes over as they are."""
WHITE = (255, 255, 255, 255)
TYPES = pyarrow.types
TEXTS = (TYPES.is_string, TYPES.is_large_string, TYPES.is_string_view)
BYTES = (TYPES.is_binary, TYPES.is_large_binary, TYPES.is_binary_view)
Value = TypeVar("Value")


def stories(path: Path, column: str, first: int, cells: Any) -> list[str]:
    """The texts of a column, without the rows that hold null; bytes are read as UTF-8."""
    if not _is(_values(cells.type), (*TEXTS, *BYTES)):
        raise _wrong_type(path, column, first, cells, "not text: save it as strings")
    found = _each(path, column, first, cells, lambda cell: _text(cell.as_py()))
    return [text for text in found if text is not None]


def labels(path: Path, column: str, first: int, cells: Any, classes: int) -> list[int]:
    """Class numbers below `classes`."""
    if not TYPES.is_integer(_values(cells.type)):
        mend = f"not whole numbers: save them as integers of 0 to {classes - 1}"
        raise _wrong_type(path, column, first, cells, mend)
    found: list[int] = cells.to_pylist()
    for row, label in enumerate(found, first):
        if label is None or not 0 <= label < classes:
            what = "null" if label is None else label
            raise _wrong_cell(
                path, column, row, f"the label is {what}, not one of 0 to {classes - 1}"
            )
    return found


def pictures(path: Path, column: str, first: int, cells: Any) -> list[NDArray[np.uint8]]:
    """Pixels [Y, X, C] of encoded pictures: bytes, or the hub's struct of bytes and path."""
    encoded = cells
    if TYPES.is_struct(cells.type) and (index := cells.type.get_field_index("bytes")) >= 0:
        encoded = cells.flatten()[index]
    if not _is(encoded.type, BYTES):
        mend = "not pictures: save the bytes of PNG files"
        raise _wrong_type(path, column, first, cells, mend)
    return list(_each(path, column, first, encoded, lambda cell: pixels(cell.as_py())))


def pixels(data: bytes | None) -> NDArray[np.uint8]:
    """A picture as the server sees it: turned upright, over white where it is transparent.

    Raises ValueError.
    """
    if data is None:
        raise ValueError("the picture is null: leave its row out, or save its bytes in the file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.verify()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image)
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except _UnfitError as error:
        raise ValueError(str(error)) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from error
    except Exception as error:  # decoders raise any class on bytes that are damaged
        raise ValueError(f"the picture is damaged: {line(error)}") from error


class _UnfitError(Exception):
    """A picture that is whole and of no use."""


def _check(image: Image.Image) -> None:
    if image.size != SIZE:
        raise _UnfitError(
            f"the picture has {image.width} x {image.height} pixels, not {SIZE[0]} x {SIZE[1]}: "
            "save all of them in that size"
        )
    if image.mode not in MODES:
        raise _UnfitError(f"the picture has pixels of kind {image.mode}: save it as 8-bit RGB")
    if getattr(image, "n_frames", 1) > 1:
        raise _UnfitError("the cell holds several pictures: save one")


def _rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    behind = Image.new("RGBA", image.size, WHITE)
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _text(text: str | bytes | None) -> str | None:
    return text.decode() if isinstance(text, bytes) else text


def _each(
    path: Path, column: str, first: int, cells: Any, read: Callable[[Any], Value]
) -> Iterator[Value]:
    """One at a time; the first that cannot be read is told with its row."""
    for row, cell in enumerate(cells, first):
        try:
            yield read(cell)
        except UnicodeDecodeError as error:
            raise _wrong_cell(path, column, row, f"it is not UTF-8 ({line(error)})") from error
        except ValueError as error:
            raise _wrong_cell(path, column, row, line(error)) from error


def _values(kind: Any) -> Any:
    return kind.value_type if TYPES.is_dictionary(kind) else kind


def _is(kind: Any, tests: tuple[Callable[[Any], bool], ...]) -> bool:
    return any(test(kind) for test in tests)


def _wrong_cell(path: Path, column: str, row: int, why: str) -> DataError:
    return DataError(f"{path}, row {row}, column {line(column)}: {why}")


def _wrong_type(path: Path, column: str, first: int, cells: Any, why: str) -> DataError:
    try:
        example = f" ({shown(cells[0].as_py())})" if len(cells) else ""
    except ValueError:
        example = ""
    return _wrong_cell(path, column, first, f"holds {line(cells.type)}{example}, {why}")
