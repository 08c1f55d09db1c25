"""What becomes of a picture on its way to the network, and which bytes are refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.errors import ImageError
from serving.images import read_image

LIMIT = 1_000_000
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (32, 32, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def channels_last(pixels_CYX: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels_CYX.transpose(1, 2, 0) * 255


def test_an_image_of_32x32_keeps_every_pixel() -> None:
    for kind, options in ("PNG", {}), ("WEBP", {"lossless": True}):
        read = read_image(encoded(Image.fromarray(PIXELS), kind, **options), LIMIT)
        assert (str(read.dtype), read.shape) == ("float32", (3, 32, 32))
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(channels_last(read).round(), PIXELS)
        assert 0 <= read.min() <= read.max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (16, 48), (200, 100), (900, 1000)])
def test_any_size_of_every_format_keeps_its_colour(kind: str, size: tuple[int, int]) -> None:
    read = channels_last(read_image(encoded(Image.new("RGB", size, (250, 120, 10)), kind), LIMIT))
    assert read.shape == (32, 32, 3)
    np.testing.assert_allclose(read, np.broadcast_to([250, 120, 10], read.shape), atol=4)


def test_shrinking_averages_instead_of_dropping_pixels() -> None:
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    for kind in ("PNG", "JPEG"):
        read = channels_last(read_image(encoded(Image.fromarray(stripes), kind), LIMIT))
        np.testing.assert_allclose(read, 127.5, atol=12)


def test_the_orientation_in_exif_is_applied() -> None:
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    read = read_image(encoded(image, "PNG", exif=exif), LIMIT)
    np.testing.assert_array_equal(channels_last(read).round(), np.rot90(PIXELS, k=-1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "LA"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    read = channels_last(read_image(encoded(image), LIMIT)).round()
    np.testing.assert_array_equal(read, np.asarray(image.convert("RGB")))


def test_a_jpeg_in_cmyk_becomes_rgb() -> None:
    read = read_image(encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"), LIMIT)
    np.testing.assert_allclose(channels_last(read)[0, 0], [255, 0, 0], atol=8)


def test_16_bits_of_grey_are_scaled_and_not_clipped() -> None:
    grey = (np.arange(32 * 32, dtype=np.uint16) * 64).reshape(32, 32)
    read = channels_last(read_image(encoded(Image.fromarray(grey)), LIMIT))
    np.testing.assert_allclose(read[..., 0], grey / 257, atol=0.51)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [1001, 12_000, 30_000, 60_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int) -> None:
    with pytest.raises(ImageError, match=r"pixels.*send a smaller"):
        read_image(png_that_claims(side, side), LIMIT)


GIF = encoded(Image.new("RGB", (32, 32)), "GIF")
PNG = encoded(Image.fromarray(PIXELS))


@pytest.mark.parametrize(
    "data",
    [b"", b"hello, I am text", GIF, PNG[:-200], PNG[:30], png_that_claims(100, 100), b"\xff\xd8"],
    ids=["empty", "text", "gif", "truncated", "header", "too little data", "jpeg marker"],
)
def test_bytes_that_are_no_acceptable_picture_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="no readable image: send a whole PNG, JPEG or WEBP file"):
        read_image(data, LIMIT)
