"""Bytes of a picture -> pixels of a network: float32 [3, 32, 32] in 0..1, channels first."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from serving.errors import ImageError
from serving.interface import IMAGE_SHAPE

FORMATS = ("PNG", "JPEG", "WEBP")
SIZE = IMAGE_SHAPE[1:]


def read_image(data: bytes, max_pixels: int) -> NDArray[np.float32]:
    """Decodes, turns upright (EXIF), converts to RGB and resizes; a 32x32 image keeps its pixels.

    Raises ImageError. The size is checked when only the header has been read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, max_pixels)
            pixels_YXC = np.asarray(_prepare(image), np.float32)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{error}: send a smaller image") from error
    except Exception as error:  # decoders raise any class on bytes that are damaged
        raise ImageError(
            f"the bytes are no readable image: send a whole {', '.join(FORMATS[:-1])} or "
            f"{FORMATS[-1]} file"
        ) from error
    return np.ascontiguousarray(pixels_YXC.transpose(2, 0, 1)) / np.float32(255)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, above the limit of {max_pixels}: "
            "send a smaller one"
        )


def _prepare(image: Image.Image) -> Image.Image:
    image.draft("RGB", (8 * SIZE[0], 8 * SIZE[1]))  # JPEG only: decodes at a fraction of the size
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bit grey: `convert` would clip, not scale
        grey = np.asarray(upright, np.float32) / 257
        upright = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    rgb = upright.convert("RGB")
    return rgb if rgb.size == SIZE else rgb.resize(SIZE, Image.Resampling.LANCZOS)
