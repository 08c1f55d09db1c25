"""Colour profiles: pictures that look the same are the same."""

import struct
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageCms

from serving.pictures.pixels import read_image
from tests.serving.pictures.test_pixels import LIMIT, PIXELS, channels_last, encoded

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


Table = Sequence[int]


def table(decode: Callable[[float], float]) -> Table:
    return [round(65535 * decode(n / 1023)) for n in range(1024)]


def profile_of(space: bytes, curve: Table, *primaries: tuple[float, float, float]) -> bytes:
    """An ICC profile of the primaries (XYZ, D50), or of grey, all with one curve."""

    def numbers(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    white = numbers(0.9642, 1.0, 0.8249)
    bends = b"curv\0\0\0\0" + struct.pack(f">I{len(curve)}H", len(curve), *curve)
    tags = {b"cprt": b"text" + bytes(8), b"wtpt": b"XYZ \0\0\0\0" + white}
    for name, primary in zip(b"rgb", primaries, strict=False):
        tags[b"%cXYZ" % name] = b"XYZ \0\0\0\0" + numbers(*primary)
    tags |= {b"%cTRC" % name: bends for name in (b"rgb" if primaries else b"k")}
    places, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        places += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content
    size = 128 + len(places) + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s", size, 0x02100000, b"mntr", space, b"XYZ ", b"acsp")
    return (head + bytes(28) + white).ljust(128, b"\0") + places + body


LINEAR_GREY = profile_of(b"GRAY", table(lambda x: x))
OTHER_SRGB = profile_of(
    b"RGB ",
    table(lambda x: x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4),
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)


def swapped(profile: bytes) -> bytes:
    """A profile whose first number is green, and its second red."""
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("side", [32, 75])
def test_a_profile_says_what_the_numbers_mean(kind: str, side: int) -> None:
    picture = Image.fromarray(PIXELS).resize((side, side))
    red, green, blue = picture.split()
    numbers = Image.merge("RGB", (green, red, blue))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    read = read_image(encoded(numbers, kind, icc_profile=swapped(SRGB), **lossless), LIMIT)
    expected = channels_last(read_image(encoded(picture), LIMIT))
    np.testing.assert_allclose(channels_last(read), expected, atol=1.01)


def test_the_profile_of_a_jpeg_counts() -> None:
    data = encoded(Image.new("RGB", (64, 48), (20, 200, 90)), "JPEG", icc_profile=swapped(SRGB))
    np.testing.assert_allclose(channels_last(read_image(data, LIMIT))[9, 9], [200, 20, 90], atol=3)


def test_what_is_transparent_stays_white_under_a_profile() -> None:
    image = Image.new("RGBA", (32, 32), (0, 255, 0, 0))
    read = read_image(encoded(image, icc_profile=swapped(SRGB)), LIMIT)
    np.testing.assert_array_equal(read, np.ones((3, 32, 32)))


@pytest.mark.parametrize("profile", [SRGB, OTHER_SRGB], ids=["formula", "tables"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_srgb_itself_changes_no_bit(mode: str, profile: bytes) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    read = read_image(encoded(image, icc_profile=profile), LIMIT)
    np.testing.assert_array_equal(read, read_image(encoded(image), LIMIT))


def test_a_profile_of_grey_is_applied_to_grey() -> None:
    image = Image.new("L", (32, 32), 128)
    read = channels_last(read_image(encoded(image, icc_profile=LINEAR_GREY), LIMIT))
    np.testing.assert_allclose(read[0, 0], 188, atol=2)  # half of the light


def test_a_profile_of_grey_is_ignored_by_colours() -> None:
    image = Image.fromarray(PIXELS)
    read = read_image(encoded(image, icc_profile=LINEAR_GREY), LIMIT)
    np.testing.assert_array_equal(read, read_image(encoded(image), LIMIT))


BAD = {
    "empty": b"",
    "text": b"no profile at all",
    "zeros": bytes(4000),
    "cut": swapped(SRGB)[:300],
    "many tags": swapped(SRGB)[:128] + b"\xff" * 4000,
    "large": swapped(SRGB) + bytes(1 << 20),
    "tables": swapped(SRGB).replace(b"desc", b"A2B0", 1),
    "elements": swapped(SRGB).replace(b"desc", b"D2B1", 1),
    "CMYK": swapped(SRGB).replace(b"RGB ", b"CMYK", 1),
    "Lab": swapped(SRGB).replace(b"RGB ", b"Lab ", 1),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("profile", BAD.values(), ids=BAD)
def test_a_bad_profile_is_ignored(kind: str, profile: bytes) -> None:
    image = Image.fromarray(PIXELS)
    read = read_image(encoded(image, kind, icc_profile=profile), LIMIT)
    np.testing.assert_array_equal(read, read_image(encoded(image, kind), LIMIT))


def test_cmyk_is_converted_by_formula_whatever_its_profile() -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    read = read_image(encoded(image, "JPEG", icc_profile=swapped(SRGB)), LIMIT)
    np.testing.assert_allclose(channels_last(read)[0, 0], [255, 0, 0], atol=8)
