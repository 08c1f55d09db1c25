"""Log lines on stderr: text for people, or JSON Lines, an object each, for collectors of logs.

    {"time": "2026-11-28T08:00:00.123456+00:00", "level": "DEBUG", "logger": "luminanet.access",
     "message": "POST /generate 200", "request_id": "..", "method": "POST", "route": "/generate",
     "status": 200, "duration_s": 0.0123}

`request_id` is there where a line is about a request, `exception` where there is a traceback.
Prompts, bodies, headers and queries are never logged: of a request its method, its route (a
template, not what a client wrote) and its id.
"""

import logging
import sys
from contextvars import ContextVar
from typing import Literal, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

Format = Literal["text", "json"]
TEXT = "%(levelname)s: %(name)s: %(message)s"
NAMES = {"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"}
COLOURED = "color_message"
"""uvicorn's message once more, for terminals."""
OURS = ("luminanet", "uvicorn")

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this task answers."""
access = logging.getLogger("luminanet.access")


def configure(format: Format, level: str) -> None:
    """All that is logged goes to stderr from now on. Below info only what is ours: what others
    tell for finding their bugs could hold what clients sent."""
    logging.basicConfig(level=max(logging.INFO, _number(level)), handlers=[handler(format)])
    for name in OURS:
        logging.getLogger(name).setLevel(_number(level))
    logging.captureWarnings(True)


def handler(format: Format, stream: TextIO | None = None) -> logging.Handler:
    """Writes lines of a format to a stream, by default stderr."""
    made = logging.StreamHandler(stream or sys.stderr)
    made.addFilter(_with_request_id)
    made.setFormatter(
        logging.Formatter(TEXT)
        if format == "text"
        else JsonFormatter(
            ["levelname", "name", "message"],
            rename_fields=NAMES,
            reserved_attrs=[*RESERVED_ATTRS, COLOURED],
            timestamp="time",
        )
    )
    return made


def answered(method: str, route: str, status: int, duration_s: float) -> None:
    """A line for an answer; from the end of a request's headers to the end of the answer."""
    if access.isEnabledFor(logging.DEBUG):
        about = {"method": method, "route": route, "status": status}
        extra = {**about, "duration_s": round(duration_s, 6)}
        access.debug("%s %s %d", method, route, status, extra=extra)


def _with_request_id(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id") and (known := request_id.get()):
        record.request_id = known
    return True


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
