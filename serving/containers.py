"""The outside of a picture file: the size it claims, and those of its parts that its pixels need.

Read from a few bytes of each part and before any decoder sees them, so that no file is dear for
what is not its pixels: texts that inflate, 500,000 empty parts, thousands of scans.
"""

import re
import zlib
from collections.abc import Iterator
from struct import error as StructError
from struct import unpack_from

from serving.errors import ImageError

MAX_PARTS = 10_000
"""Chunks of a PNG or segments of a JPEG: real files of 8 MiB have about 1,000 at most."""
MAX_SCANS = 64
"""Passes over the pixels of a JPEG: each costs as much as it likes, progressive files have 10."""
MAX_PROFILE_BYTES = 1 << 20

PNG, RIFF, JPEG = b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8"
PNG_PARTS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
JPEG_PARTS = {*range(0xC0, 0xD0), *range(0xDB, 0xE0), 0xE0, 0xEE}
"""Frames, tables and what says how colours are stored (JFIF, Adobe)."""
EXIF, PROFILE, SCAN, END = 0xE1, 0xE2, 0xDA, 0xD9
NO_FRAME = {0xC4, 0xC8, 0xCC}
"""Markers between those of frames that are none."""
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")

Segment = tuple[int, int, int]
"""A marker of a JPEG, and where its segment begins and ends."""


def claimed_size(data: bytes) -> tuple[int, int]:
    """(columns, rows) that the header tells; (0, 0) when it does not.

    Raises ImageError when a JPEG has too many parts.
    """
    try:
        if data.startswith(PNG):
            width, height = unpack_from(">II", data, 16)
            return width, height
        if data.startswith(RIFF):
            return _webp_size(data)
        return _jpeg_size(data) if data.startswith(JPEG) else (0, 0)
    except StructError:
        return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":  # two times 24 bits, less one
        low, high, rows_low, rows_high = unpack_from("<HBHB", data, 24)
        return (low | high << 16) + 1, (rows_low | rows_high << 16) + 1
    if kind == b"VP8L":  # two times 14 bits, less one
        (bits,) = unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int]:
    width = height = 0
    for marker, start, _ in _segments(data):
        if marker == SCAN:
            break
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME:
            height, width = unpack_from(">HH", data, start + 5)
    return width, height


def essential(data: bytes) -> bytes:
    """The same picture without texts, thumbnails, animations and all else that shows nothing.

    Orientation (EXIF) and colour profile stay, unless they are damaged or above
    MAX_PROFILE_BYTES. Raises ImageError above MAX_PARTS or MAX_SCANS.
    """
    if data.startswith(PNG):
        return PNG + b"".join(_png_parts(data))
    return b"".join(_jpeg_parts(data)) if data.startswith(JPEG) else data


def _png_parts(data: bytes) -> Iterator[bytes]:
    place, once = len(PNG), {b"eXIf", b"iCCP"}
    for _ in range(MAX_PARTS):
        if place + 8 > len(data):
            return
        length, kind = unpack_from(">I4s", data, place)
        end = place + length + 12
        if kind in PNG_PARTS:
            yield data[place:end]
        elif kind in once and _is_whole(data[place:end]):
            once.remove(kind)
            yield data[place:end]
        if kind == b"IEND":
            return
        place = end
    raise _too_many("parts", MAX_PARTS)


def _is_whole(chunk: bytes) -> bool:
    """Whether a chunk that a picture can do without is what it says."""
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    return not chunk.startswith(b"iCCP", 4) or _inflates(chunk[8:-4])


def _inflates(profile: bytes) -> bool:
    _, _, packed = profile.partition(b"\0")
    try:
        inflater = zlib.decompressobj()
        inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return packed[:1] == b"\0" and inflater.eof


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    yield JPEG
    scans, pixels, exif = 0, len(data), False
    for marker, start, end in _segments(data):
        scans += marker == SCAN
        pixels = min(pixels, start) if marker == SCAN else pixels
        if scans > MAX_SCANS:
            raise _too_many("scans", MAX_SCANS)
        if scans:
            continue
        first_exif = marker == EXIF and not exif and data.startswith(b"Exif\0\0", start + 4)
        profile = marker == PROFILE and data.startswith(b"ICC_PROFILE\0", start + 4)
        exif |= first_exif
        if marker in JPEG_PARTS or first_exif or profile:
            yield data[start:end]
    yield data[pixels:]


def _segments(data: bytes) -> Iterator[Segment]:
    """What has a length in a JPEG, up to its end; the pixels are between the segments."""
    place = len(JPEG)
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, place)
        if not found or (marker := found[1][0]) == END:
            return
        place = found.end()
        if marker != 0xD8:
            length = int.from_bytes(data[place : place + 2], "big")
            place += max(length, 2)
            yield marker, found.start(), place
    raise _too_many("parts", MAX_PARTS)


def _too_many(what: str, most: int) -> ImageError:
    return ImageError(
        f"the image file has more than {most:,} {what}: write it again with a common program"
    )
