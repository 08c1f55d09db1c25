"""Bytes of a picture -> pixels of a network: float32 [3, 32, 32] in 0..1, channels first."""

import io
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from luminanet.interface import IMAGE_SHAPE
from serving.errors import ImageError
from serving.pictures.colours import in_srgb
from serving.pictures.containers import claimed_size, essential
from serving.pictures.orientation import upright

FORMATS = ("PNG", "JPEG", "WEBP")
SIZE = IMAGE_SHAPE[1:]
MAX_SIDE = 65_535
"""Of JPEG, and above that of WebP. The memory of Pillow grows with each side, not with their
product alone: rows have pointers, and Lanczos a table of the side's length."""
LARGE = 1 << 20
"""Pixels above which decoding may take tens of milliseconds, up to half a second."""
DRAFT = 512
"""A JPEG of at least twice this size is decoded at 1/2, 1/4 or 1/8, but not below this size, which
is up to four times as fast. What comes out is within 2 levels of 255 of what all its pixels give,
and a probability within 0.02 (measured to 4000 x 3000; from 256 on 0.025, at more speed)."""


def read_image(data: bytes, max_pixels: int) -> NDArray[np.float32]:
    """Decodes a picture as a viewer shows it on a white page, and resizes it.

    What is transparent is laid over white, a colour profile is applied (colours.py) and
    the picture is turned upright (EXIF). One of 32x32 that is opaque and in sRGB keeps its pixels;
    others are resized by Lanczos, whatever their aspect. Of an animation the first picture counts.

    Raises ImageError. The size is checked when only the header has been read.
    """
    width, height = size = claimed_size(data)
    _check_size(width, height, max_pixels)
    try:
        with Image.open(io.BytesIO(essential(data)), formats=FORMATS) as image:
            if image.size != size:
                raise ValueError("the header tells two sizes")
            pixels_YXC = np.asarray(_prepare(image, data), np.float32)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{error}: send a smaller image") from error
    except Exception as error:  # decoders raise any class on bytes that are damaged
        raise ImageError(
            f"the bytes are no readable image: send a whole {', '.join(FORMATS[:-1])} or "
            f"{FORMATS[-1]} file"
        ) from error
    return unit(np.ascontiguousarray(pixels_YXC.transpose(2, 0, 1)))


def unit(levels: NDArray[Any]) -> NDArray[np.float32]:
    """Levels of 0 to 255 -> 0..1, as networks take them."""
    scaled: NDArray[np.float32] = np.divide(levels, 255, dtype=np.float32)
    return scaled


def claimed_pixels(data: bytes, max_pixels: int) -> int:
    """Pixels that `read_image` will decode, judged from the header; 0 where it will refuse them."""
    try:
        pixels = prod(claimed_size(data))
    except ImageError:
        return 0
    return pixels if pixels <= max_pixels else 0


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the image has {width} x {height} pixels, above the limit of {max_pixels}, or of "
            f"{MAX_SIDE} on a side: send a smaller one"
        )


def _prepare(image: Image.Image, data: bytes) -> Image.Image:
    """Colours are mixed before the profile is applied and the picture is turned, which are cheap
    on 32x32 pixels."""
    drafted = image.draft(None, (DRAFT, DRAFT))  # JPEG only: decodes at a fraction of the size
    box = drafted[1] if drafted else None  # its sides may end within a pixel
    opaque = _opaque(image, data)
    if opaque.size != SIZE:
        opaque = opaque.resize(SIZE, Image.Resampling.LANCZOS, box)
    profile = None if image.mode == "CMYK" else image.info.get("icc_profile")
    return upright(in_srgb(opaque, profile), data)


def _opaque(image: Image.Image, data: bytes) -> Image.Image:
    """As L or RGB, over white."""
    image.load()
    if image.format == "PNG":
        _mend_key(image, depth=data[24])
    if image.mode == "I;16":
        return _grey(image)
    if image.has_transparency_data:
        seen = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(seen, mask=seen)
        return page
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _mend_key(image: Image.Image, depth: int) -> None:
    """The colour that a PNG says is transparent, in the levels that Pillow stores: it scales
    pixels of 1, 2, 4 and 16 bits to 8, but not this colour."""
    key = image.info.get("transparency")
    most = (1 << depth) - 1
    if image.mode == "L" and key is not None:
        image.info["transparency"] = (key & most) * 255 // most
    if image.mode == "RGB" and key is not None:
        image.info["transparency"] = tuple((part & most) * 255 // most for part in key)


def _grey(image: Image.Image) -> Image.Image:
    """16 bits, which `convert` would clip: rounds levels / 257; one level may be transparent."""
    levels_YX = np.asarray(image)
    scaled_YX = np.minimum(levels_YX, 65_407)  # rounds to 255 as all above do; + 128 still fits
    scaled_YX += 128
    scaled_YX //= 257
    grey_YX = scaled_YX.astype(np.uint8)
    key = image.info.get("transparency")
    if key is not None:
        grey_YX[levels_YX == key] = 255
    return Image.fromarray(grey_YX)
