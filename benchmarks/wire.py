"""HTTP/1.1 byte by byte, for measurements in which when a byte comes, or a client goes, matters."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from luminanet.errors import DataError

HEAD_END = b"\r\n\r\n"
MOST_HEAD_BYTES = 1 << 18
BROKEN = (OSError, EOFError, DataError)
"""What a connection that ends too early raises, and an answer that is none."""
JSON = "application/json"


def request(
    method: str,
    path: str,
    body: bytes = b"",
    kind: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole request; `headers` come beside Host, and the body's type and length, or instead."""
    told = {"Host": "localhost"}
    if body or method == "POST":
        told |= {"Content-Type": kind, "Content-Length": str(len(body))}
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in (told | dict(headers or {})).items()),
    ]
    return "\r\n".join(lines).encode() + HEAD_END + body


def post(path: str, body: Mapping[str, Any]) -> bytes:
    """A request with a JSON object."""
    return request("POST", path, json.dumps(body).encode())


@dataclass(frozen=True, slots=True)
class Head:
    """How an answer begins; names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used again."""
        return self.headers.get("connection", "").lower() != "close"


class Connection:
    """One connection, and what comes on it. Everything that waits raises one of BROKEN."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._where = where.hostname, where.port

    async def __aenter__(self) -> "Connection":
        host, port = self._where
        self._reader, self._writer = await asyncio.open_connection(
            host, port, limit=MOST_HEAD_BYTES
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def reset(self) -> None:
        """Ends it without a farewell, as a client that was killed with an answer unread."""
        self._writer.transport.abort()

    async def head(self) -> Head:
        """The next answer that is not a mere 100 Continue."""
        while True:
            first, *lines = (await self._reader.readuntil(HEAD_END)).decode("latin-1").splitlines()
            pairs = (line.partition(":") for line in lines if line)
            found = Head(_status(first), {name.lower(): value.strip() for name, _, value in pairs})
            if found.status != 100:
                return found

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """The body's parts, as they come."""
        if head.headers.get("transfer-encoding") == "chunked":
            while size := int((await self._reader.readline()).strip() or b"-1", 16):
                if size < 0:
                    raise DataError("an answer ended before its last chunk")
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        elif length := int(head.headers.get("content-length", "0")):
            yield await self._reader.readexactly(length)

    async def answer(self) -> tuple[Head, bytes]:
        """A whole one."""
        head = await self.head()
        return head, b"".join([part async for part in self.body(head)])


def _status(line: str) -> int:
    version, _, rest = line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise DataError(f"this is no answer of HTTP: {line[:80]!r}")
    return int(rest[:3])


async def ask(url: str, data: bytes) -> tuple[Head, bytes]:
    """One request on a connection of its own."""
    async with Connection(url) as connection:
        connection.send(data)
        return await connection.answer()
