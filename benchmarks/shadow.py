"""`python -m benchmarks.shadow [ARTIFACTS]`: what shadow traffic costs, and whether it is right.

Two servers, one with --shadow, get the same requests in turns, in blocks of a few seconds: streams
that begin at times drawn beforehand (open loop), so that one that is late delays no other. Clients'
p50 and p99 are compared, with an interval from a bootstrap over blocks. Then the advantage that the
server tells is set beside two others, of the same requests: engines alone, without HTTP and clients
(offline), and what a client sees who asks either model in turns. Writes benchmarks/shadow.md.
"""

import argparse
import asyncio
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import provenance, table
from luminanet.artifact.manifest import Family
from luminanet.errors import DataError, LuminaNetError
from luminanet.sampling import Sampling
from serving.engines.detokenize import Transcript
from serving.engines.text import Replay
from serving.measure.load import PROMPT_WORDS, TALE
from serving.measure.servers import served
from serving.metrics.advantage import Advantage, Interval, Pair, Times, advantage
from serving.metrics.families import Metrics
from serving.models.load import load
from serving.service import Service
from serving.settings import Settings

PAGE = Path(__file__).parent / "shadow.md"
TOKENS = (32, 160)
PAUSE_S = 2.0
"""After a block, for replays that are left: they must not fall into the other server's block."""
RESAMPLES = 1000
LIMIT_S = 120
QUANTITIES = ("time to first token", "time per output token", "whole request")


@dataclass(frozen=True, slots=True)
class Asked:
    prompt: str
    tokens: int
    seed: int


class Seen(NamedTuple):
    """What a client saw of a stream: seconds from sending to the first text and to the end."""

    first_s: float
    whole_s: float
    tokens: int
    finish: str


CLIENTS: dict[str, Callable[[Seen], float]] = {
    QUANTITIES[0]: lambda seen: seen.first_s,
    QUANTITIES[2]: lambda seen: seen.whole_s,
}


def requests(rng: random.Random, count: int) -> list[Asked]:
    words = TALE.split()
    return [
        Asked(
            " ".join(rng.choices(words, k=rng.randint(*PROMPT_WORDS))),
            rng.randint(*TOKENS),
            rng.getrandbits(32),
        )
        for _ in range(count)
    ]


# ---------------------------------------------------------------------- clients


async def stream(url: str, asked: Asked, model: Family = Family.LUMINANET) -> Seen:
    """Raises DataError when the answer is no stream that ended by itself."""
    where = urlsplit(url)
    body = json.dumps(
        {
            "prompt": asked.prompt,
            "max_tokens": asked.tokens,
            "seed": asked.seed,
            "stream": True,
            "model": model.value,
        }
    ).encode()
    head = (
        f"POST /generate HTTP/1.1\r\nHost: {where.hostname}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    begun_s = perf_counter()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(head.encode() + body)
        answer, first_s = b"", 0.0
        while part := await reader.read(1 << 16):
            answer += part
            if not first_s and b'"text"' in answer:
                first_s = perf_counter() - begun_s
        whole_s = perf_counter() - begun_s
    finally:
        writer.close()
    last = re.search(rb'data: (\{"finish_reason".*\})', answer)
    if last is None or not first_s:
        raise DataError(f"no stream came to its end: {answer[:200]!r}")
    end = json.loads(last[1])
    return Seen(first_s, whole_s, end["usage"]["completion_tokens"], end["finish_reason"])


async def block(url: str, rate: float, seconds: float, rng: random.Random) -> list[Seen]:
    """A Poisson schedule of absolute times; each request is sent whatever became of the others."""
    begun_s, at_s, tasks = perf_counter(), rng.expovariate(rate), []
    while at_s < seconds:
        await asyncio.sleep(max(0.0, begun_s + at_s - perf_counter()))
        tasks.append(asyncio.create_task(stream(url, requests(rng, 1)[0])))
        at_s += rng.expovariate(rate)
    async with asyncio.timeout(LIMIT_S):
        return list(await asyncio.gather(*tasks))


async def in_turns(urls: Sequence[str], given: argparse.Namespace) -> list[list[list[Seen]]]:
    """For each server its blocks. Both get the same schedule; who is first changes."""
    found: list[list[list[Seen]]] = [[] for _ in urls]
    for number in range(given.blocks):
        order = [0, 1] if number % 2 else [1, 0]
        for arm in order:
            rng = random.Random(given.seed * 1000 + number)
            found[arm].append(await block(urls[arm], given.rate, given.seconds, rng))
            await asyncio.sleep(PAUSE_S)
    return found


# ---------------------------------------------------------------------- what it costs


class Change(NamedTuple):
    off: float
    on: float
    change: float
    low: float
    high: float


def change(off: Sequence[Sequence[float]], on: Sequence[Sequence[float]], q: float) -> Change:
    """Quantiles of all values, and by how much `on` is above, with 95 % from a bootstrap over pairs
    of blocks."""
    rng = np.random.default_rng(0)

    def quantile(blocks: Sequence[Sequence[float]], picked: NDArray[np.int64]) -> float:
        return float(np.quantile(np.concatenate([blocks[k] for k in picked]), q))

    every = np.arange(len(off))
    drawn = [rng.choice(every, len(every)) for _ in range(RESAMPLES)]
    changes = [quantile(on, picked) / quantile(off, picked) - 1 for picked in drawn]
    low, high = np.quantile(changes, (0.025, 0.975))
    before, after = quantile(off, every), quantile(on, every)
    return Change(before, after, after / before - 1, float(low), float(high))


def costs(blocks: Sequence[Sequence[Sequence[Seen]]]) -> str:
    rows = []
    for quantity, pick in CLIENTS.items():
        off, on = ([[pick(seen) for seen in one] for one in arm] for arm in blocks)
        for q in (0.5, 0.99):
            found = change(off, on, q)
            rows.append(
                [
                    quantity,
                    f"p{round(100 * q)}",
                    f"{1e3 * found.off:.2f} ms",
                    f"{1e3 * found.on:.2f} ms",
                    f"{found.change:+.1%} ({found.low:+.1%} to {found.high:+.1%})",
                ]
            )
    return table(["clients see", "", "without", "with shadows", "change (95 %)"], rows)


# ---------------------------------------------------------------------- whether it is true


async def offline(artifacts: Path, asked: Sequence[Asked], threads: int) -> list[Pair]:
    """Both engines in this process, in turns, nothing else: no HTTP, no other request."""
    settings = Settings(artifacts=artifacts, max_batch=8, threads=threads)
    models = load(artifacts, settings.compute_threads)
    service = Service(settings, models, Metrics())
    service.start()
    pairs = []
    try:
        for number, one in enumerate(asked):
            order = [*Family] if number % 2 else [*reversed(Family)]
            found = {family: await _computed(service, family, one) for family in order}
            pairs.append(Pair(found[Family.LUMINANET], found[Family.GPT2]))
    finally:
        await service.stop()
    return pairs


async def _computed(service: Service, family: Family, asked: Asked) -> Times:
    model, engine = service.text(family)
    transcript = Transcript(model.tokenizer.stream(), ())
    how = Sampling(0.8, top_k=50, seed=asked.seed)
    begun_s = perf_counter()
    job = Replay(model.encode(asked.prompt), transcript, how, asked.tokens, begun_s)
    engine.submit(job)
    while (await job.outbox.take())[-1].finish is None:
        pass
    pace_s = (job.last_s - job.first_s) / (job.tokens - 1)
    return Times(job.first_s - begun_s, pace_s, job.last_s - begun_s)


async def as_clients_see(url: str, asked: Sequence[Asked]) -> list[Pair]:
    """Either model asked in turns over HTTP; only requests to which both wrote as many tokens."""
    pairs = []
    for number, one in enumerate(asked):
        order = [*Family] if number % 2 else [*reversed(Family)]
        seen = {family: await stream(url, one, family) for family in order}
        if len({found.tokens for found in seen.values()}) == 1:
            ours, theirs = (_paced(seen[family]) for family in (Family.LUMINANET, Family.GPT2))
            pairs.append(Pair(ours, theirs))
    return pairs


def _paced(seen: Seen) -> Times:
    return Times(seen.first_s, (seen.whole_s - seen.first_s) / (seen.tokens - 1), seen.whole_s)


def told(url: str) -> dict[tuple[str, ...], float]:
    """The server's own words, by name and the values of its labels."""
    with urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    pattern = r"^(luminanet_(?:advantage|throughput|shadow)\w*)(?:\{(.*)\})? (\S+)$"
    return {
        (name, *re.findall(r'"([^"]*)"', labels)): float(value)
        for name, labels, value in re.findall(pattern, text, re.MULTILINE)
    }


def truth(live: dict[tuple[str, ...], float], others: Sequence[Advantage]) -> str:
    rows = []
    for quantity, name in zip(Times._fields, QUANTITIES, strict=True):
        for q in ("0.5", "0.99"):
            ends = ("", "_low", "_high")
            value, low, high = (
                live[f"luminanet_advantage_ratio{end}", q, quantity] for end in ends
            )
            found = [Interval(value, low, high), *(o.ratios[quantity][float(q)] for o in others)]
            cells = ["too few" if isnan(one.value) else _shown(one) for one in found]
            against = value / found[1].value - 1
            cells.append("" if isnan(against) else f"{against:+.1%}")
            rows.append([name, f"p{round(100 * float(q))}", *cells])
    header = ["advantage", "", "live", "offline", "over HTTP, in turns", "live against offline"]
    return table(header, rows)


def _shown(ratio: Interval) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


# ---------------------------------------------------------------------- the command


def measure(given: argparse.Namespace) -> str:
    flags = ["--artifacts", str(given.artifacts), "--threads", str(given.threads)]
    with ExitStack() as open_:
        servers = [
            open_.enter_context(served([*flags, "--shadow", str(share)]))
            for share in (0, given.share)
        ]
        urls = [one.url for one in servers]
        asked = requests(random.Random(given.seed), given.compared)
        print("warming, then blocks in turns", file=sys.stderr)
        for url in urls:
            asyncio.run(as_clients_see(url, asked[:10]))
        blocks = asyncio.run(in_turns(urls, given))
        live = told(urls[1])
        print("the two comparisons", file=sys.stderr)
        seen = asyncio.run(as_clients_see(urls[0], asked))
    alone = asyncio.run(offline(given.artifacts, [*asked, *asked], given.threads))
    outcomes = ", ".join(
        f"{round(value)} {key[1]}"
        for key, value in live.items()
        if key[0] == "luminanet_shadow_requests_total"
    )
    counts = [sum(map(len, arm)) for arm in blocks]
    return (
        f"{counts[0]} and {counts[1]} streams of {TOKENS[0]} to {TOKENS[1]} tokens, "
        f"{given.rate:g} a second (Poisson), in {given.blocks} pairs of blocks of "
        f"{given.seconds:g} s; share {given.share:g}.\n\n{costs(blocks)}\n"
        f"Of the requests chosen: {outcomes}. Advantage is the baseline's time over LuminaNet's; "
        f"offline are {len(alone)} pairs, over HTTP {len(seen)}.\n\n"
        f"{truth(live, [advantage(alone), advantage(seen)])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadow", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--share", type=float, default=0.25, help="of requests (default 0.25)")
    parser.add_argument("--rate", type=float, default=6.0, help="requests a second (default 6)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a block (default 8)")
    parser.add_argument("--blocks", type=int, default=15, help="of either server (default 15)")
    parser.add_argument("--compared", type=int, default=150, help="requests (default 150)")
    parser.add_argument("--threads", type=int, default=0, help="per model; 0: as many as CPUs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes")
    given = parser.parse_args(argv)
    try:
        page = measure(given)
        print(page)
        command = f"python -m benchmarks.shadow --blocks {given.blocks} --compared {given.compared}"
        note = provenance(command, ("onnxruntime", "numpy"), str(given.seed))
        given.page.write_text(f"# Shadow traffic\n\n{page}\n{note}", "utf-8")
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
