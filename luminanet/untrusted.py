"""JSON from elsewhere, read more strictly than the standard library reads it.

A key that comes twice, NaN, infinities and numbers beyond float64 are refused, and every value is
checked to be what it is taken for. All of these raise ValueError; the callers say which file.
"""

import json
import math
import sys
from typing import Any

LONGEST = 10_000
"""Characters of one text."""
LARGEST = sys.float_info.max
SHOWN, QUOTED = 160, 60
"""Characters of a message from elsewhere, and of a value quoted in one."""


def parse(text: str) -> Any:
    """Raises ValueError, or RecursionError when it is nested too deeply."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{shown(digits)} is too large")
    return number


def plain(value: object, name: str) -> str:
    """Text that can be printed on one line."""
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise ValueError(f"{name} is {shown(value)}, not plain text")
    return value


def whole(value: object, name: str, most: int, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {shown(value)}, not a whole number of {least} to {most}")
    return value


def number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST:
        raise ValueError(f"{name} is {shown(value)}, not a number")
    return value


def mapping(value: object, name: str, most: int = 1000) -> dict[str, Any]:
    """An object with at most so many keys, all of them plain text."""
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError(f"{name} is {shown(value)}, not an object of at most {most} keys")
    return {plain(key, f"a key of {name}"): inner for key, inner in value.items()}


def shown(value: object) -> str:
    """A value as it can be quoted in a message."""
    is_many = isinstance(value, (dict, list))
    return line(type(value).__name__ if is_many else ascii(value), QUOTED)


def line(message: object, longest: int = SHOWN) -> str:
    """Any text as one line that is not long and that a terminal does not obey."""
    text = " ".join(str(message)[: 2 * longest].split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= longest else f"{text[:longest]}.."
