"""Bytes of an .npy file -> levels of pictures: uint8 [B, 3, 32, 32], channels first.

Nothing of what a header claims is allocated before it is checked, and no object is ever unpickled.
Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
from math import prod

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from luminanet.interface import IMAGE_SHAPE
from serving.errors import ImageError

MAGIC = npy.MAGIC_PREFIX
MAX_HEADER_BYTES = 1024
"""numpy writes 128 for what is taken here."""
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
SHAPE = (*IMAGE_SHAPE[1:], IMAGE_SHAPE[0])


def read_levels(data: bytes, most: int) -> NDArray[np.uint8]:
    """Pictures as numpy and Pillow have them, of the shape [32, 32, 3], which is one, or
    [B, 32, 32, 3] with B from 1 to `most`; in either order of memory.

    Returns them channels first, [3, 32, 32] or [B, 3, 32, 32]. Raises ImageError.
    """
    shape, fortran, dtype, start = _header(data)
    if dtype != np.uint8:
        raise ImageError(
            f"the .npy file has the dtype {dtype.name}: send the levels 0 to 255 as uint8"
        )
    rows = shape[0] if len(shape) == 1 + len(SHAPE) else 1
    if shape[-len(SHAPE) :] != SHAPE or len(shape) > 1 + len(SHAPE) or not 1 <= rows <= most:
        raise ImageError(
            f"the .npy file has the shape {list(shape)}: send {list(SHAPE)}, or [n, "
            f"{', '.join(map(str, SHAPE))}] with n from 1 to {most}: rows, columns, channels"
        )
    if len(data) - start != prod(shape):
        raise ImageError(
            f"the .npy file has {len(data) - start} bytes behind its header, where its shape "
            f"{list(shape)} asks for {prod(shape)}: send the whole file"
        )
    flat = np.frombuffer(data, np.uint8, offset=start)
    return np.moveaxis(flat.reshape(shape, order="F" if fortran else "C"), -1, -3)


def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, whether the first index varies fastest, dtype, and where the levels begin. Raises
    ImageError."""
    front = io.BytesIO(data[:MAX_HEADER_BYTES])
    try:
        read = READERS[npy.read_magic(front)]
        return (*read(front), front.tell())
    except Exception as error:  # numpy raises several classes on bytes that are damaged
        raise ImageError(
            "the header of the .npy file cannot be read: send what numpy.save writes of an array "
            "of uint8"
        ) from error
