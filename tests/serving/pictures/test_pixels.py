"""What becomes of a picture on its way to the network, and which bytes are refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from serving.errors import ImageError
from serving.pictures.pixels import read_image

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


@pytest.mark.parametrize("mode", ["L", "P", "1"])
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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(header: tuple[int, int, int, int], rows: bytes, *chunks: bytes) -> bytes:
    """A PNG of its parts; header: width, height, bits, colour type."""
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
    return start + b"".join(chunks) + end


def png_that_claims(width: int, height: int) -> bytes:
    return png_of((width, height, 8, 2), b"\0" * 1000)


@pytest.mark.parametrize("side", [1001, 12_000, 30_000, 60_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int) -> None:
    with pytest.raises(ImageError, match=r"pixels.*send a smaller"):
        read_image(png_that_claims(side, side), LIMIT)


def test_a_limit_above_that_of_the_library_is_told_apart_from_damage() -> None:
    with pytest.raises(ImageError, match=r"exceeds limit.*send a smaller"):
        read_image(png_that_claims(20_000, 20_000), 10**9)


@pytest.mark.parametrize("size", [(65_536, 1), (1, 65_536), (1_000_000, 1), (1, 1_000_000)])
def test_a_side_is_limited_too_because_memory_grows_with_it(size: tuple[int, int]) -> None:
    width, height = size
    data = png_of((*size, 1, 0), (b"\0" + bytes((width + 7) // 8)) * height)
    with pytest.raises(ImageError, match=r"65535 on a side: send a smaller"):
        read_image(data, LIMIT)


@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535)])
def test_the_longest_side_that_is_allowed_is_read(size: tuple[int, int]) -> None:
    read = channels_last(read_image(encoded(Image.new("RGB", size, (250, 120, 10))), LIMIT))
    np.testing.assert_array_equal(read.round(), np.broadcast_to([250, 120, 10], read.shape))


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


# ---------------------------------------------------------------------- what is seen decides

HIDDEN = [(0, 0, 0), (255, 255, 255), (255, 0, 255), (0, 160, 0)]
KINDS: list[tuple[str, dict[str, Any]]] = [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})]


def with_hole(hidden: tuple[int, int, int], side: int = 32) -> NDArray[np.uint8]:
    """PIXELS in RGBA, the right half of which is transparent."""
    pixels_YXC = np.dstack([PIXELS, np.full((32, 32), 255, np.uint8)])
    pixels_YXC[:, 16:] = (*hidden, 0)
    return np.asarray(Image.fromarray(pixels_YXC).resize((side, side), Image.Resampling.NEAREST))


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("side", [32, 75])
def test_what_is_transparent_is_white_whatever_colour_it_hides(
    kind: str, options: dict[str, Any], side: int
) -> None:
    pictures = [Image.fromarray(with_hole(hidden, side)) for hidden in HIDDEN]
    read = [read_image(encoded(picture, kind, **options), LIMIT) for picture in pictures]
    plain_YXC = with_hole((255, 255, 255), side)[..., :3]
    expected = read_image(encoded(Image.fromarray(plain_YXC)), LIMIT)
    for pixels in read:
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_half_transparent_is_half_white(kind: str, options: dict[str, Any]) -> None:
    image = Image.new("RGBA", (32, 32), (200, 100, 0, 51))
    read = channels_last(read_image(encoded(image, kind, **options), LIMIT))
    np.testing.assert_allclose(read[0, 0], [244, 224, 204], atol=0.51)


@pytest.mark.parametrize("side", [32, 75])
def test_alpha_that_hides_nothing_changes_no_bit(side: int) -> None:
    opaque = Image.fromarray(PIXELS).resize((side, side))
    for mode, plain in ("RGBA", "RGB"), ("LA", "L"):
        read = read_image(encoded(opaque.convert(plain).convert(mode)), LIMIT)
        np.testing.assert_array_equal(read, read_image(encoded(opaque.convert(plain)), LIMIT))


def test_grey_with_alpha_is_laid_over_white_at_8_and_16_bits() -> None:
    row = bytes([70, 255, 70, 0, 70, 51])
    eight = png_of((3, 1, 8, 4), b"\0" + row)
    sixteen = png_of((3, 1, 16, 4), b"\0" + bytes(b for byte in row for b in (byte, byte)))
    expected = read_image(encoded(Image.fromarray(np.array([[70, 255, 218]], np.uint8))), LIMIT)
    for data in eight, sixteen:
        np.testing.assert_array_equal(read_image(data, LIMIT), expected)


def test_a_palette_may_have_colours_that_are_transparent() -> None:
    palette = chunk(b"PLTE", bytes([200, 60, 30, 0, 160, 0, 9, 9, 9]))
    expected = Image.fromarray(np.array([[[200, 60, 30], [255, 255, 255], [9, 9, 9]]], np.uint8))
    for alphas in (b"\xff\0", b"\xff\0\xff"):  # one that is clear, or an alpha for each
        data = png_of((3, 1, 8, 3), b"\0\0\1\2", palette, chunk(b"tRNS", alphas))
        read = read_image(data, LIMIT)
        np.testing.assert_array_equal(read, read_image(encoded(expected), LIMIT))


@pytest.mark.parametrize(
    ("bits", "row", "key", "seen"),
    [
        (1, b"\x40", 1, [0, 255, 0]),
        (1, b"\x40", 0, [255, 255, 255]),
        (2, b"\x1b", 1, [0, 255, 170]),
        (4, b"\x0f\x30", 3, [0, 255, 255]),
        (8, b"\0\x46\x50", 70, [0, 255, 80]),
        (16, b"\x46\x46\x46\x47\x50\x50", 0x4646, [255, 70, 80]),
    ],
)
def test_one_level_of_grey_may_be_transparent(
    bits: int, row: bytes, key: int, seen: list[int]
) -> None:
    data = png_of((3, 1, bits, 0), b"\0" + row, chunk(b"tRNS", struct.pack(">H", key)))
    expected = read_image(encoded(Image.fromarray(np.array([seen], np.uint8))), LIMIT)
    np.testing.assert_array_equal(read_image(data, LIMIT), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_one_colour_may_be_transparent(bits: int) -> None:
    row = bytes([1, 2, 3, 1, 2, 4])
    key = struct.pack(">3H", 1, 2, 3)
    if bits == 16:
        row = bytes(b for byte in row for b in (byte, 77))
        key = bytes([1, 77, 2, 77, 3, 77])
    data = png_of((2, 1, bits, 2), b"\0" + row, chunk(b"tRNS", key))
    expected = Image.fromarray(np.array([[[255, 255, 255], [1, 2, 4]]], np.uint8))
    np.testing.assert_array_equal(read_image(data, LIMIT), read_image(encoded(expected), LIMIT))


def test_16_bits_of_colour_keep_their_upper_8() -> None:
    rows = b"".join(
        b"\0" + bytes(b for byte in row.tobytes() for b in (byte, 99)) for row in PIXELS
    )
    read = read_image(png_of((32, 32, 16, 2), rows), LIMIT)
    np.testing.assert_array_equal(channels_last(read).round(), PIXELS)


def test_a_jpeg_in_ycck_becomes_rgb() -> None:
    y, cb, cr = Image.new("RGB", (32, 32), (0, 255, 255)).convert("YCbCr").split()
    bands = [band.point(lambda level: 255 - level) for band in (y, cb, cr)]
    image = Image.merge("CMYK", [*bands, Image.new("L", (32, 32), 0)])
    data = encoded(image, "JPEG", quality=100)
    adobe = data.index(b"Adobe")
    ycck = data[: adobe + 11] + b"\2" + data[adobe + 12 :]
    read = read_image(ycck, LIMIT)
    np.testing.assert_allclose(channels_last(read)[0, 0], [255, 0, 0], atol=8)


# ---------------------------------------------------------------------- EXIF


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_in_every_format(kind: str, orientation: int) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PIXELS), kind, exif=exif, **lossless)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(channels_last(read_image(data, LIMIT)).round(), expected)


TURNED = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHHI", 0x0112, 3, 1, 6, 0, 0)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"no exif",
        TURNED[:7],
        TURNED[:9],
        TURNED[:14],
        TURNED.replace(b"\x06", b"\x63"),
        TURNED.replace(b"\x08", b"\xff"),
        TURNED.replace(b"II*", b"IJ*"),
    ],
    ids=["empty", "text", "head", "count", "entry", "99", "far away", "byte order"],
)
def test_exif_that_is_damaged_turns_nothing(exif: bytes) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    turned = read_image(png_of((32, 32, 8, 2), rows, chunk(b"eXIf", TURNED)), LIMIT)
    np.testing.assert_array_equal(channels_last(turned).round(), np.rot90(PIXELS, k=-1))
    read = read_image(png_of((32, 32, 8, 2), rows, chunk(b"eXIf", exif)), LIMIT)
    np.testing.assert_array_equal(channels_last(read).round(), PIXELS)


# ---------------------------------------------------------------------- large JPEGs


@pytest.mark.parametrize("size", [(600, 700), (1025, 1031), (2051, 2053)])
def test_a_jpeg_that_is_decoded_small_is_as_if_decoded_whole(size: tuple[int, int]) -> None:
    data = encoded(Image.fromarray(PIXELS).resize(size), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    levels = read_image(data, 5_000_000) - read_image(encoded(whole), 5_000_000)
    assert np.abs(levels * 255).max() < 2.5
