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
"""Passes over all pixels of a JPEG, each for a few bytes; progressive files have about 10."""
MAX_PROFILE_BYTES = 1 << 20

PNG, RIFF, JPEG = b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8"
PNG_PARTS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
JPEG_PARTS = {*range(0xC0, 0xD0), *range(0xDB, 0xE0), 0xE0, 0xEE}
"""Frames, tables and what says how colours are stored (JFIF, Adobe)."""
PROFILE, SCAN, AGAIN, END = 0xE2, 0xDA, 0xD8, 0xD9
NO_FRAME = {0xC4, 0xC8, 0xCC}
"""Markers between those of frames that are none."""
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")


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
    for marker, start, _ in segments(data):
        if marker == SCAN:
            break
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME:
            height, width = unpack_from(">HH", data, start + 5)
    return width, height


def essential(data: bytes) -> bytes:
    """The same picture without texts, thumbnails, animations and all else that shows nothing.

    A colour profile stays unless it is damaged or above MAX_PROFILE_BYTES; EXIF does not, see
    orientation.py. A WebP stays as it is: its decoder passes over what it does not need.
    Raises ImageError above MAX_PARTS or MAX_SCANS.
    """
    if data.startswith(PNG):
        return PNG + b"".join(_png_parts(data))
    return b"".join(_jpeg_parts(data)) if data.startswith(JPEG) else data


def _png_parts(data: bytes) -> Iterator[bytes]:
    profiles = 0
    for kind, start, end in chunks(data):
        if kind in PNG_PARTS:
            yield data[start:end]
        elif kind == b"iCCP" and not profiles and _is_whole(data[start:end]):
            profiles += 1
            yield data[start:end]


def _is_whole(chunk: bytes) -> bool:
    """Whether a compressed profile is as it says, and not above MAX_PROFILE_BYTES."""
    _, _, packed = chunk[8:-4].partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    checked = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
    return checked and packed[:1] == b"\0" and inflater.eof


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    yield JPEG
    scans = 0
    pixels = len(data)
    for marker, start, end in segments(data):
        if marker == SCAN:
            scans += 1
            pixels = min(pixels, start)
        if scans > MAX_SCANS:
            raise _too_many("scans", MAX_SCANS)
        profile = marker == PROFILE and data.startswith(b"ICC_PROFILE\0", start + 4)
        if not scans and (marker in JPEG_PARTS or profile):
            yield data[start:end]
    yield data[pixels:]


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each chunk of a PNG. Raises ImageError above MAX_PARTS."""
    place = len(PNG)
    for _ in range(MAX_PARTS):
        if place + 8 > len(data):
            return
        length, kind = unpack_from(">I4s", data, place)
        end = place + length + 12
        yield kind, place, end
        if kind == b"IEND":
            return
        place = end
    raise _too_many("parts", MAX_PARTS)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of what has a length in a JPEG, up to its end; the pixels are between
    these. Raises ImageError above MAX_PARTS."""
    place = len(JPEG)
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, place)
        if not found or (marker := found[1][0]) == END:
            return
        place = found.end()
        if marker != AGAIN:
            length = int.from_bytes(data[place : place + 2], "big")
            place += max(length, 2)
            yield marker, found.start(), place
    raise _too_many("parts", MAX_PARTS)


def riff(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each chunk of a WebP. Raises ImageError above
    MAX_PARTS."""
    place = 12
    for _ in range(MAX_PARTS):
        if place + 8 > len(data):
            return
        kind, length = unpack_from("<4sI", data, place)
        yield kind, place + 8, place + 8 + length
        place += 8 + length + length % 2
    raise _too_many("parts", MAX_PARTS)


def _too_many(what: str, most: int) -> ImageError:
    return ImageError(
        f"the image file has more than {most:,} {what}: write it again with a common program"
    )
