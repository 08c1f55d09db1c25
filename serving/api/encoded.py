"""Base64 as clients write it: RFC 4648 with either alphabet, with line breaks or without, padded
or not, alone or in a data URL (RFC 2397)."""

import binascii

from serving.errors import RequestError

URL_SAFE = bytes.maketrans(b"-_", b"+/")
WHITE = b" \t\r\n"
DATA = "data:"
MAX_PREFIX = 256
"""Characters before the comma of a data URL: a media type and its parameters."""


def decode(text: str) -> bytes:
    """The bytes of the field `image`. Raises RequestError."""
    try:
        raw = _without_prefix(text).encode("ascii").translate(URL_SAFE, WHITE).rstrip(b"=")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except UnicodeEncodeError as error:
        raise _refused("it has letters that are not in its alphabet") from error
    except binascii.Error as error:
        cause = "characters are missing or not in its alphabet (A-Z a-z 0-9 + / or - _, = last)"
        raise _refused(cause) from error


def _without_prefix(text: str) -> str:
    if text[: len(DATA)].lower() != DATA:
        return text
    head, comma, data = text.partition(",")
    if not comma or len(head) > MAX_PREFIX or not head.lower().rstrip().endswith(";base64"):
        raise _refused("a data URL must begin like data:image/png;base64,")
    return data


def _refused(cause: str) -> RequestError:
    return RequestError(f"image is not base64: {cause}", "image")
