"""Which side of a picture is up: the one entry of EXIF that counts here.

Read without a library because those read all that EXIF says, and warn of each entry they dislike.
Source: CIPA DC-008 (Exif 2.3), 4.5 and 4.6.4 A.
"""

from struct import error as StructError
from struct import unpack_from

from PIL import Image

from serving.pictures.containers import JPEG, PNG, RIFF, chunks, riff, segments

ORIENTATION, SHORT = 0x0112, 3
EXIF, HEAD = 0xE1, b"Exif\0\0"
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, data: bytes) -> Image.Image:
    """The image turned as the EXIF of its file says; as it is where that is damaged or absent.

    Raises ImageError when the file has too many parts.
    """
    turn = UPRIGHT.get(_orientation(_exif(data).removeprefix(HEAD)))
    return image if turn is None else image.transpose(turn)


def _exif(data: bytes) -> bytes:
    if data.startswith(PNG):
        return next((data[a + 8 : b - 4] for kind, a, b in chunks(data) if kind == b"eXIf"), b"")
    if data.startswith(RIFF):
        return next((data[a:b] for kind, a, b in riff(data) if kind == b"EXIF"), b"")
    if data.startswith(JPEG):
        found = (data[a + 4 : b] for kind, a, b in segments(data) if kind == EXIF)
        return next((content for content in found if content.startswith(HEAD)), b"")
    return b""


def _orientation(tiff: bytes) -> int:
    order = BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = unpack_from(f"{order}I", tiff, 4)
        (count,) = unpack_from(f"{order}H", tiff, directory)
        for entry in range(count):
            place = directory + 2 + 12 * entry
            tag, kind, _, value = unpack_from(f"{order}HHIH", tiff, place)
            if (tag, kind) == (ORIENTATION, SHORT):
                return int(value)
    except StructError:  # it ends before it says
        pass
    return 1
