"""The scripted load: so many clients at once, whose requests follow from the seed alone."""

import asyncio
import base64
import io
import json
import random
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from luminanet.artifact.manifest import Family, Task
from luminanet.errors import DataError

REQUESTS = 64
"""At least as many are sent, so that a load of one client lasts as well."""
TOKENS = 200
PROMPT_WORDS = (4, 40)
TALE = (
    "once upon a time there was little girl named lily who loved to play with her big red ball in "
    "the park and one day she saw small dog that looked very sad because it could not"
)
PIXELS = 32
ANSWER_S = 600

Asked = tuple[str, dict[str, Any]]
"""A path, and the JSON that is sent to it."""


def requests(task: Task, family: Family, sequences: int, seed: int) -> list[list[Asked]]:
    """A list for each of the clients, which they send one after the other."""
    rng = random.Random(seed)
    one: Callable[[random.Random, Family], Asked] = _text if task is Task.GENERATION else _picture
    rounds = max(1, REQUESTS // sequences)
    return [[one(rng, family) for _ in range(rounds)] for _ in range(sequences)]


def _text(rng: random.Random, family: Family) -> Asked:
    prompt = " ".join(rng.choices(TALE.split(), k=rng.randint(*PROMPT_WORDS)))
    body = {"prompt": prompt, "max_tokens": TOKENS, "seed": rng.getrandbits(32), "stream": True}
    return "/generate", {**body, "model": family.value}


def _picture(rng: random.Random, _family: Family) -> Asked:
    file = io.BytesIO()
    Image.frombytes("RGB", (PIXELS, PIXELS), rng.randbytes(3 * PIXELS**2)).save(file, "PNG")
    return "/classify", {"image": base64.b64encode(file.getvalue()).decode()}


async def run(url: str, clients: Sequence[Sequence[Asked]]) -> None:
    """All clients at once. Raises DataError when an answer is not 200."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    where = (address.hostname, address.port)
    async with asyncio.timeout(ANSWER_S):
        await asyncio.gather(*(_client(*where, asked) for asked in clients))


async def _client(host: str, port: int, asked: Sequence[Asked]) -> None:
    for path, body in asked:
        answer = await _post(host, port, path, json.dumps(body).encode())
        status, _, rest = answer.partition(b"\r\n")
        if b" 200 " not in status + b" ":
            shown = rest.rpartition(b"\r\n\r\n")[2][:200].decode(errors="replace")
            raise DataError(f"the server answered {status.decode(errors='replace')}: {shown}")


async def _post(host: str, port: int, path: str, body: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()
