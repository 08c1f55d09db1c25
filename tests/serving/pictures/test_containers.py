"""Files that are dear for what is not their pixels: parts that are dropped, and those refused."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from serving.errors import ImageError
from serving.pictures.containers import claimed_size, essential
from serving.pictures.pixels import read_image
from tests.serving.pictures.test_pixels import LIMIT, PIXELS, chunk, encoded, png_of

ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)
PLAIN = png_of((32, 32, 8, 2), ROWS)
JPEG = encoded(Image.fromarray(PIXELS), "JPEG")
ZEROS = zlib.compress(bytes(1 << 20), 9)


def png_with(*chunks: bytes) -> bytes:
    return png_of((32, 32, 8, 2), ROWS, *chunks)


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"zTXt", b"key\0\0" + ZEROS),
        chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(b"\xff" * 1000)),
        chunk(b"tEXt", b"key\0" + bytes(1000)),
        chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(2 << 20), 9)),
        chunk(b"iCCP", b"key\0\0" + ZEROS[:-9]),
        chunk(b"iCCP", b"key\0\1" + ZEROS),
        chunk(b"iCCP", b"key\0\0" + ZEROS)[:-1] + b"?",
        chunk(b"iCCP", b"key"),
        chunk(b"iCCP", b""),
        chunk(b"eXIf", bytes(1000)),
        chunk(b"acTL", struct.pack(">II", 1000, 0)),
        chunk(b"fcTL", bytes(26)),
        chunk(b"abCd", b""),
    ],
    ids=str,
)
def test_a_png_is_read_without_what_shows_nothing(part: bytes) -> None:
    data = png_with(part, part)
    assert essential(data) == PLAIN
    np.testing.assert_array_equal(read_image(data, LIMIT), read_image(PLAIN, LIMIT))


@pytest.mark.parametrize(
    "part",
    [
        segment(0xFE, b"a comment"),
        segment(0xE1, b"Exif\0\0" + bytes(1000)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(1000)),
        segment(0xE2, b"MPF\0" + bytes(100)),
        segment(0xED, b"Photoshop 3.0\0" + bytes(1000)),
        b"\xff" * 1000,
        b"\0" * 1000,
    ],
    ids=lambda part: str(part[:12]),
)
def test_a_jpeg_is_read_without_what_shows_nothing(part: bytes) -> None:
    data = jpeg_with(part, part)
    assert essential(data) == essential(JPEG)
    np.testing.assert_array_equal(read_image(data, LIMIT), read_image(JPEG, LIMIT))


FLOODS: dict[str, Callable[[int], bytes]] = {
    "chunks": lambda n: png_with(chunk(b"abCd", b"") * n),
    "pixels in pieces": lambda n: png_with(chunk(b"IDAT", b"") * n),
    "profiles": lambda n: png_with(chunk(b"iCCP", b"key\0\0") * n),
    "comments": lambda n: jpeg_with(segment(0xFE, b"") * n),
    "exif in pieces": lambda n: jpeg_with(segment(0xE1, b"Exif\0\0M") * n),
    "starts": lambda n: jpeg_with(b"\xff\xd8" * n),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_files_of_very_many_parts_are_refused(flood: Callable[[int], bytes]) -> None:
    read_image(flood(5_000), LIMIT)
    with pytest.raises(ImageError, match="more than 10,000 parts"):
        read_image(flood(10_001), LIMIT)


def test_a_webp_of_very_many_parts_is_refused() -> None:
    data = encoded(Image.fromarray(PIXELS), "WEBP")
    with pytest.raises(ImageError, match="more than 10,000 parts"):
        read_image(data + b"abcd\0\0\0\0" * 10_001, LIMIT)


def progressive(scans: int) -> bytes:
    """The last scan of a JPEG, which refines what is there, again and again."""
    image = Image.new("L", (32, 32), 128)
    data = encoded(image, "JPEG", progressive=True)
    there = data.count(b"\xff\xda")
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - there) + data[-2:]


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    assert read_image(progressive(64), LIMIT).shape == (3, 32, 32)
    with pytest.raises(ImageError, match="more than 64 scans"):
        read_image(progressive(65), LIMIT)


SIZES = [(1, 1), (37, 300), (900, 41)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"MM\0*\0\0\0\x08"}])
def test_the_size_that_a_webp_claims_is_that_of_its_pixels(
    size: tuple[int, int], mode: str, options: dict[str, object]
) -> None:
    assert claimed_size(encoded(Image.new(mode, size), "WEBP", **options)) == size


@pytest.mark.parametrize("size", SIZES)
def test_the_size_that_a_file_claims_is_that_of_its_pixels(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    assert claimed_size(encoded(image)) == size
    assert claimed_size(encoded(image, "JPEG")) == size
    assert claimed_size(encoded(image, "JPEG", progressive=True)) == size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_may_end_anywhere(kind: str) -> None:
    data = encoded(Image.fromarray(PIXELS), kind)
    for end in [*range(64), len(data) // 2]:
        with pytest.raises(ImageError, match="no readable image"):
            read_image(data[:end], LIMIT)


def test_a_header_that_contradicts_itself_is_refused() -> None:
    other = chunk(b"IHDR", struct.pack(">IIBBBBB", 33, 32, 8, 2, 0, 0, 0))
    with pytest.raises(ImageError, match="no readable image"):
        read_image(png_with(other), LIMIT)
