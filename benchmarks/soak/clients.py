"""Clients that run errands, so many at once -> what each request was answered."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.soak.mix import Errand, Leave, Request
from benchmarks.wire import BROKEN, HEAD_END, Connection, Head
from luminanet.errors import DataError

ANSWER_S = 60.0
"""Who waits longer is counted as hanging."""
FRAME_END, DATA, DONE = b"\n\n", b"data: ", b"[DONE]"


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a request. `ending` is its finish_reason, "done" or "error" for a picture;
    `fault` is what was not right, "" for nothing; `place` counts those before it in a pipeline."""

    request: Request
    done_s: float
    status: int = 0
    ending: str = ""
    fault: str = ""
    leaves: Leave | None = None
    resets: bool = False
    place: int = 0


async def run(url: str, errands: Iterator[Errand], clients: int) -> list[Seen]:
    """All errands; each client takes the next when it has done one."""
    found: list[Seen] = []

    async def client() -> None:
        for errand in errands:
            found.extend(await _run(url, errand))

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def _run(url: str, errand: Errand) -> Sequence[Seen]:
    if errand.leaves:
        return await _leave(url, errand)
    seen: list[Seen] = []
    fault = "no answer came in time"
    try:
        async with asyncio.timeout(ANSWER_S), Connection(url) as connection:
            connection.send(b"".join(request.data for request in errand.requests))
            for request in errand.requests:
                head, body = await connection.answer()
                seen.append(_answered(request, head, body))
    except TimeoutError:
        pass
    except BROKEN as error:
        fault = f"{type(error).__name__}: {error}"[:120]
    rest = errand.requests[len(seen) :]
    return [*seen, *(Seen(request, time.monotonic(), fault=fault) for request in rest)]


async def _leave(url: str, errand: Errand) -> Sequence[Seen]:
    """Sends what is to be sent, reads what is to be read, and goes."""
    first, status, fault = errand.requests[0], 0, ""
    try:
        async with asyncio.timeout(ANSWER_S), Connection(url) as connection:
            connection.send(_sent(errand))
            if errand.leaves is Leave.ANSWER:
                head = await connection.head()
                status = head.status
                if first.streams:
                    await anext(connection.body(head))
            await asyncio.sleep(errand.after_s)
            if errand.resets:
                connection.reset()
    except TimeoutError:
        fault = "no answer came in time"
    except BROKEN as error:
        fault = f"{type(error).__name__}: {error}"[:120]
    now_s = time.monotonic()
    return [
        Seen(request, now_s, status * (not place), "", fault, errand.leaves, errand.resets, place)
        for place, request in enumerate(errand.requests)
    ]


def _sent(errand: Errand) -> bytes:
    whole = b"".join(request.data for request in errand.requests)
    head = errand.requests[0].data.index(HEAD_END) + len(HEAD_END)
    match errand.leaves:
        case Leave.HEAD:
            return whole[: 1 + int(errand.share * (head - 2))]
        case Leave.BODY:
            return whole[: head + int(errand.share * (len(whole) - head - 1))]
    return whole


# ---------------------------------------------------------------------- what came back


def _answered(request: Request, head: Head, body: bytes) -> Seen:
    ending, fault = "", ""
    if head.status != request.status:
        fault = f"{head.status} instead of {request.status}: {body[:120]!r}"
    elif head.status == 429 and "retry-after" not in head.headers:
        fault = "a 429 without Retry-After"
    else:
        try:
            ending = _ending(request, body)
        except (ValueError, KeyError, DataError) as error:
            fault = f"{type(error).__name__}: {error}"[:120]
    return Seen(request, time.monotonic(), head.status, ending, fault)


def _ending(request: Request, body: bytes) -> str:
    """Raises DataError when an answer does not end exactly once."""
    if request.streams:
        return _stream_ending(body)
    content = json.loads(body)
    if request.status != 200:
        if not content["error"]["message"]:
            raise DataError("an error without a message")
        return "error"
    if request.model == "picture":
        return "done" if content["label"] in content["probabilities"] else "no label"
    return _reason(content) or ""


def _stream_ending(body: bytes) -> str:
    *frames, last, rest = body.split(FRAME_END)
    if rest or last != DATA + DONE:
        raise DataError(f"a stream ends with {(last + rest)[-80:]!r}")
    contents = (json.loads(frame.removeprefix(DATA)) for frame in frames if frame[:1] != b":")
    reasons = [reason for content in contents if (reason := _reason(content))]
    if len(reasons) != 1:
        raise DataError(f"a stream with the ends {reasons}")
    return reasons[0]


def _reason(content: Any) -> str | None:
    """Of an answer or a frame, ours or OpenAI's."""
    choices = content.get("choices")
    found = (choices[0] if choices else content).get("finish_reason")
    return None if found is None else str(found)
