"""Arrays of pictures as numpy.save writes them, and what only looks like one."""

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy
from numpy.typing import NDArray

from serving.errors import ImageError
from serving.pictures.arrays import MAGIC, read_levels

LEVELS = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)
GOOD = {"descr": "|u1", "fortran_order": False, "shape": (1, 32, 32, 3)}


def saved(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, array, version)
    return buffer.getvalue()


def claiming(data: bytes = bytes(3072), **header: Any) -> bytes:
    """A file whose header says what it likes."""
    text = f"{ {**GOOD, **header} }\n".encode()
    return MAGIC + b"\1\0" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("levels", [LEVELS, LEVELS[:1], LEVELS[0]], ids=["three", "one", "alone"])
def test_levels_are_read_in_either_order_channels_first(
    levels: NDArray[np.uint8], order: Any, version: tuple[int, int]
) -> None:
    found = read_levels(saved(np.asarray(levels, order=order), version), most=3)
    np.testing.assert_array_equal(found, np.moveaxis(levels, -1, -3))


def test_bytes_have_no_order_of_their_own() -> None:
    for descr in ">u1", "<u1", "|u1", "=u1":
        assert read_levels(claiming(descr=descr), most=1).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved(LEVELS.astype(np.float32)), "dtype float32: send the levels 0 to 255 as uint8"),
        (saved(LEVELS.astype(">u2")), "dtype uint16"),
        (saved(LEVELS.astype(np.int8)), "dtype int8"),
        (saved(LEVELS > 9), "dtype bool"),
        (saved(np.array([{}], object)), "dtype object"),
        (saved(np.zeros(3072, "u1,u1")), "dtype void"),
        (saved(LEVELS.transpose(0, 3, 1, 2)), r"shape \[3, 3, 32, 32\]: send \[32, 32, 3\], or"),
        (saved(LEVELS[None]), r"shape \[1, 3, 32, 32, 3\]"),
        (saved(LEVELS[:0]), r"shape \[0, 32, 32, 3\]"),
        (saved(LEVELS[0, 0]), r"shape \[32, 3\]"),
        (saved(np.array(1, np.uint8)), r"shape \[\]"),
        (saved(np.concatenate([LEVELS, LEVELS])), "with n from 1 to 3"),
        (claiming(shape=(-1, 32, 32, 3)), "with n from 1 to 3"),
        (claiming(shape=(10**12, 32, 32, 3)), "with n from 1 to 3"),
        (claiming(shape=(2, 32, 32, 3)), "has 3072 bytes behind its header, where"),
        (saved(LEVELS)[:-1], "has 9215 bytes"),
        (saved(LEVELS) + b"\0", "has 9217 bytes"),
        (saved(LEVELS)[:100], "cannot be read"),
        (saved(LEVELS, (3, 0)), "cannot be read"),
        (MAGIC, "cannot be read"),
        (MAGIC + b"\2\0\xff\xff\xff\xff" + bytes(9000), "cannot be read"),
        (claiming(shape=("a",)), "cannot be read"),
        (claiming(descr="nothing"), "cannot be read"),
        (claiming(colour="red"), "cannot be read"),
        (claiming(shape=(1,) * 500), "cannot be read"),
        (MAGIC + b"\1\0\x88\2" + b"[" * 648, "cannot be read"),
        (MAGIC + b"\1\0\x88\2" + b"-" * 647 + b"1", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_array_of_pictures_is_refused_with_its_cause(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_levels(data, most=3)


@pytest.mark.parametrize(
    "data",
    [
        claiming(shape=(10**12, 32, 32, 3)),
        claiming(descr="|O", shape=(10**12,)),
        claiming(descr=f"|V{2**30}"),
        MAGIC + b"\2\0\xff\xff\xff\x7f" + bytes(9_000_000),
    ],
    ids=["elements", "objects", "size of one", "header"],
)
def test_what_a_header_claims_is_not_allocated(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            read_levels(data, most=10**9)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ImageError):
        read_levels(MAGIC + data, most=3)
