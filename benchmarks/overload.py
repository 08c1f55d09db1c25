"""`python -m benchmarks.overload [ARTIFACTS]`: what a server does with more than it can.

First a closed loop that keeps all places of the batch taken says what load can be sustained. Then
texts come at times drawn beforehand (open loop): a tenth of that load, for what a text takes
unloaded, and twice of it; after that one every 100 ms says when the server is itself again. It is
done with the settings as they are, and with few places and a short queue, as one sets it to whom
late is as bad as never. Then come the ends of ends.py.
Writes benchmarks/overload.md.
"""

import argparse
import asyncio
import random
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import wire
from benchmarks.ends import LONG_TOKENS, STREAM_TOKENS, STREAMS, body, ended, killed, reloaded
from benchmarks.report import provenance, table
from luminanet.errors import DataError, LuminaNetError
from serving.measure.servers import served

PAGE = Path(__file__).parent / "overload.md"
ANSWER_S = 60.0
TOKENS = 64
LOW, HIGH = 0.1, 2.0
AFTER_S, EVERY_S = 4.0, 0.1
NORMAL = 1.5
"""Times the p99 of an unloaded server: what a text takes at most of one that is itself again."""
PLACES = ((32, 128), (8, 4), (2, 1))
"""--max-batch and --queue-limit: as they are, and for whom a late text is as bad as none."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds from when it was to be sent, and from when it was, to its end; `status` 0 hung."""

    latency_s: float
    service_s: float
    status: int
    retry: bool


@dataclass(frozen=True, slots=True)
class Found:
    """Of one setting. `normal_s`: when after the overload texts took what they take unloaded."""

    sustained: float
    low: Sequence[Seen]
    high: Sequence[Seen]
    normal_s: float


async def send(url: str, data: bytes, intended_s: float | None = None) -> Seen:
    begun_s, status, retry = time.monotonic(), 0, False
    try:
        async with asyncio.timeout(ANSWER_S):
            head, _ = await wire.ask(url, data)
        status, retry = head.status, "retry-after" in head.headers
    except (TimeoutError, *wire.BROKEN):
        pass
    now_s = time.monotonic()
    return Seen(
        now_s - (begun_s if intended_s is None else intended_s), now_s - begun_s, status, retry
    )


# ---------------------------------------------------------------------- overload


async def sustained(url: str, clients: int, seconds: float, rng: random.Random) -> float:
    """Texts a second, when all clients send again as soon as they are answered."""
    done, end_s = 0, time.monotonic() + seconds

    async def client() -> None:
        nonlocal done
        while time.monotonic() < end_s:
            one = await send(url, body(rng, max_tokens=TOKENS))
            done += one.status == 200

    begun_s = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.monotonic() - begun_s)


async def offered(url: str, rate: float, seconds: float, rng: random.Random) -> list[Seen]:
    """Texts at Poisson times, each sent whatever became of the others."""
    begun_s, at_s, tasks = time.monotonic(), rng.expovariate(rate), []
    while at_s < seconds:
        await asyncio.sleep(max(0.0, begun_s + at_s - time.monotonic()))
        tasks.append(asyncio.create_task(send(url, body(rng, max_tokens=TOKENS), begun_s + at_s)))
        at_s += rng.expovariate(rate)
    return [await task for task in tasks]


async def overload(url: str, clients: int, seconds: float, rng: random.Random) -> Found:
    await sustained(url, clients, 1.0, rng)
    rate = await sustained(url, clients, seconds, rng)
    if not rate:
        raise DataError("the server answered no text within the time")
    low = await offered(url, LOW * rate, 2 * seconds, rng)
    most_s = _quantile([one.latency_s for one in low], 0.99)
    high = asyncio.create_task(offered(url, HIGH * rate, seconds, rng))
    await asyncio.sleep(seconds)
    over_s, late = time.monotonic(), 0.0
    while time.monotonic() < over_s + AFTER_S:
        begun_s = time.monotonic()
        one = await send(url, body(rng, max_tokens=TOKENS))
        if one.status != 200 or one.latency_s > NORMAL * most_s:
            late = begun_s - over_s + one.latency_s
        await asyncio.sleep(max(0.0, begun_s + EVERY_S - time.monotonic()))
    return Found(rate, low, await high, late)


# ---------------------------------------------------------------------- the page


def _quantile(times_s: Sequence[float], q: float) -> float:
    return float(np.quantile(times_s, q)) if times_s else float("nan")


def row(name: str, found: Found) -> list[str]:
    taken = [one.latency_s for one in found.high if one.status == 200]
    refused = [one for one in found.high if one.status == 429]
    others = [one for one in [*found.low, *found.high] if one.status not in (200, 429)]
    low = _quantile([one.latency_s for one in found.low if one.status == 200], 0.99)
    high = _quantile(taken, 0.99)
    quick = [one.service_s for one in refused]
    return [
        name,
        f"{found.sustained:.1f}",
        f"{1e3 * low:.0f} ms",
        f"{1e3 * high:.0f} ms",
        f"{high / low:.1f}",
        f"{len(taken)}, {len(refused)}, {len(others)}",
        f"{sum(one.retry for one in refused)} of {len(refused)}",
        f"{1e3 * _quantile(quick, 0.5):.1f}, {1e3 * _quantile(quick, 0.99):.1f} ms",
        f"{found.normal_s:.1f} s",
    ]


HEADER = [
    "--max-batch, --queue-limit",
    "sustained texts/s",
    "p99 at a tenth",
    "p99 of those taken at twice",
    "ratio",
    "at twice: taken, 429, others",
    "with Retry-After",
    "a 429 takes p50, p99",
    "normal after",
]


def measure(given: argparse.Namespace) -> str:
    rng, rows = random.Random(given.seed), []
    flags = ["--artifacts", str(given.artifacts)]
    for batch, queue in PLACES:
        with served([*flags, f"--max-batch={batch}", f"--queue-limit={queue}"]) as server:
            found = asyncio.run(overload(server.url, batch, given.seconds, rng))
        rows.append(row(f"{batch}, {queue}", found))
        print(rows[-1], file=sys.stderr)
    with TemporaryDirectory() as folder:
        key, keys = secrets.token_urlsafe(), Path(folder) / "keys"
        keys.write_text(sha256(key.encode()).hexdigest(), "utf-8")
        with served([*flags, f"--admin-key-file={keys}"]) as server:
            loaded = asyncio.run(reloaded(server.url, key))
    with served(flags) as server:
        whole, broken = asyncio.run(ended(server.url, server.pid, rng))
    with served([*flags, "--max-batch=1"]) as server:
        freed = [asyncio.run(killed(server.url, rng)) for _ in range(given.kills)]
    return (
        f"Texts of {TOKENS} tokens, {given.seconds:g} s at twice the sustained load. Latency is "
        "from the time that was drawn for a text, what a 429 takes from when it was sent; normal "
        f"is {NORMAL} of the p99 at a tenth. Load and server share the machine.\n\n"
        f"{table(HEADER, rows)}\n"
        f"A reload under {STREAMS} streams of {LONG_TOKENS} tokens took {loaded.seconds:.1f} s; at "
        f"its end {loaded.running} of them still ran: {loaded.broken} broken, {loaded.changed} "
        "changed.\n\n"
        f"SIGTERM under {STREAMS} streams of {STREAM_TOKENS} tokens: {whole} came whole, {broken} "
        f"broken.\n\nA client killed in a stream: the next had its first text after "
        f"{', '.join(f'{1e3 * one:.1f}' for one in sorted(freed))} ms.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of the overload (default 10)")
    parser.add_argument("--kills", type=int, default=5, help="clients that are killed (default 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes")
    given = parser.parse_args(argv)
    try:
        page = measure(given)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(page)
    command = f"python -m benchmarks.overload --seconds {given.seconds:g}"
    note = provenance(command, ("onnxruntime", "uvicorn"), str(given.seed))
    given.page.write_text(f"# Overload\n\n{page}\n{note}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
