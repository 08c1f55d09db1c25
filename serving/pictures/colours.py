"""Colour profiles: what a picture's numbers mean -> sRGB, in which the networks were trained."""

import io
from struct import unpack_from

import numpy as np
from PIL import Image, ImageCms

from serving.pictures.containers import MAX_PROFILE_BYTES

SRGB = ImageCms.createProfile("sRGB")
TABLES = {f"{kind}{n}".encode() for kind in ("A2B", "D2B") for n in range(4)}
"""Tags that a small file can make arbitrarily dear to read; profiles of displays, of cameras and
of editing have three primaries and their curves instead."""
MODES = {"RGB": "RGB", "GRAY": "L"}
"""Pillow's mode of numbers in a profile's space."""
LEVELS = 1
"""By how much a profile changes a picture's 8 bits when it is sRGB itself, rounding apart."""


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An L or RGB image as RGB in sRGB. A profile that is damaged, above MAX_PROFILE_BYTES, made
    for another mode or of tables is ignored; the numbers then count as sRGB."""
    rgb = image.convert("RGB")
    if not profile or not _is_cheap(profile):
        return rgb
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(
            source, SRGB, mode, "RGB", flags=ImageCms.Flags.NOOPTIMIZE
        )
        shown = transform.apply(rgb if mode == "RGB" else image)
    except Exception:  # damaged, or for other modes; its reader raises any class
        return rgb
    changes = np.abs(np.asarray(shown, np.int16) - np.asarray(rgb, np.int16))
    return shown if changes.max() > LEVELS else rgb


def _is_cheap(profile: bytes) -> bool:
    if not 132 <= len(profile) <= MAX_PROFILE_BYTES:
        return False
    (count,) = unpack_from(">I", profile, 128)
    tags = {profile[place : place + 4] for place in range(132, 132 + 12 * min(count, 100), 12)}
    return count <= 100 and not tags & TABLES
