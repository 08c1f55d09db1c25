"""`python -m benchmarks.soak [ARTIFACTS]`: thousands of mixed requests, broken and broken off.

A server gets, from so many clients at once, generations (streamed or not, both models), pictures,
OpenAI's completions and texts to tokenize, some pipelined; a tenth is malformed, and a tenth of the
clients leaves at a random moment. Shown are whether every request ended exactly once, whether the
server's counters add up to what was sent, how its memory grew, and how long /health/live took at
worst. Ends with 1 when a law is broken. Writes benchmarks/soak.md.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import wire
from benchmarks.load.watch import Usage, Watch
from benchmarks.report import provenance, table
from benchmarks.soak.clients import Seen, run
from benchmarks.soak.laws import Law, counts, laws
from benchmarks.soak.mix import errands
from benchmarks.soak.probe import Health, probed
from luminanet.errors import DataError, LuminaNetError
from serving.measure.servers import Server, served

PAGE = Path(__file__).parent.parent / "soak.md"
SETTLES_S = 15.0
GROWTH_BYTES = 1024
"""Of memory a request in the second half: more is a leak."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Soaked:
    seen: Sequence[Seen]
    laws: Sequence[Law]
    health: Health
    usage: Usage
    seconds: float

    @property
    def growth(self) -> float:
        """Bytes of resident memory a request, in the second half, by least squares."""
        times = np.sort([one.done_s for one in self.seen])
        at_s, rss = np.array(self.usage.times_s), np.array(self.usage.rss_bytes)
        late = (at_s >= times[len(times) // 2]) & (at_s <= times[-1])
        done = np.searchsorted(times, at_s[late])
        return float(np.polyfit(done, rss[late], 1)[0])

    @property
    def faults(self) -> Sequence[str]:
        found = [f"{one.request.kind}: {one.fault}" for one in self.seen if one.fault]
        found += [
            f"{law.what} is {law.found}, not {law.low} to {law.high}"
            for law in self.laws
            if not law.holds
        ]
        if self.health.failed:
            found.append(f"{self.health.failed} probes of /health/live failed")
        if self.growth > GROWTH_BYTES:
            found.append(f"memory grows by {self.growth:.0f} bytes a request")
        return found


async def soak(server: Server, count: int, clients: int, seed: int) -> Soaked:
    """Raises DataError when the server does not come to rest, or says no metrics."""
    url = server.url
    await run(url, errands(seed + 1, max(1, count // 20)), clients)  # of the warm-up nothing counts
    before = await _settled(url)
    begun_s = time.monotonic()
    with probed(url) as health, Watch({"server": server.pid}) as watch:
        seen = await run(url, errands(seed, count), clients)
        seconds = time.monotonic() - begun_s
        after = await _settled(url)
    return Soaked(seen, laws(seen, before, after), health, watch.usage["server"], seconds)


async def _settled(url: str) -> Counter[tuple[str, ...]]:
    """What the server has counted, once nothing runs, waits or changes any more."""
    end_s, last = time.monotonic() + SETTLES_S, Counter[tuple[str, ...]]()
    while time.monotonic() < end_s:
        _, text = await wire.ask(url, wire.request("GET", "/metrics"))
        now = counts(text.decode())
        busy = any(value for (kind, *_), value in now.items() if kind in ("running", "waiting"))
        if now == last and not busy:
            return now
        last = now
        await asyncio.sleep(0.5)
    raise DataError(f"the server did not come to rest within {SETTLES_S:g} s after the last client")


# ---------------------------------------------------------------------- the page


def page(found: Soaked) -> str:
    left = Counter(str(one.leaves) for one in found.seen if one.leaves and not one.place)
    wrong = sum(one.request.status != 200 for one in found.seen)
    pipelined = sum(bool(one.place) for one in found.seen)
    gone = sum(bool(one.leaves) for one in found.seen)
    moments = ", ".join(f"{number} {moment}" for moment, number in sorted(left.items()))
    verdict = "\n".join(f"- {fault}" for fault in found.faults) or "All laws hold."
    return (
        f"{len(found.seen)} requests in {found.seconds:.0f} s: {wrong} malformed, {pipelined} "
        f"pipelined behind another; {gone} of clients that left ({moments}).\n\n{verdict}\n\n"
        f"{_figures(found)}\n"
        "What the server counted, between what must and what may have been counted: these are "
        "apart by the requests of clients that left.\n\n"
        f"{_laws(found.laws)}"
    )


def _figures(found: Soaked) -> str:
    stayed = [one for one in found.seen if not one.leaves]
    health, rss = found.health, found.usage.rss_bytes
    memory = ", ".join(f"{size / MIB:.1f} MiB" for size in (rss[0], rss[-1], max(rss)))
    rows = [
        ["clients that stayed: requests", str(len(stayed))],
        ["of them right, and ended once", str(sum(not one.fault for one in stayed))],
        ["/health/live: probes, failed", f"{len(health.waits_s)}, {health.failed}"],
        ["p50, p99, worst", _quantiles(health.waits_s)],
        ["how late the prober itself woke up: p50, p99, worst", _quantiles(health.late_s)],
        ["resident memory: first, last, most", memory],
        ["its slope in the second half", f"{found.growth:+.0f} bytes a request"],
    ]
    return table(["", "found"], rows)


def _quantiles(times_s: Sequence[float]) -> str:
    return ", ".join(f"{1e3 * np.quantile(times_s, q):.1f} ms" for q in (0.5, 0.99, 1))


def _laws(found: Sequence[Law]) -> str:
    rows = [
        [law.what, str(law.low), str(law.found), str(law.high), "yes" if law.holds else "**no**"]
        for law in found
    ]
    return table(["", "at least", "counted", "at most", "holds"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--requests", type=int, default=10_000, help="in all (default 10000)")
    parser.add_argument("--clients", type=int, default=32, help="at once (default 32)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=1200, help="seconds at most (default 1200)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes")
    given = parser.parse_args(argv)
    try:
        with served(["--artifacts", str(given.artifacts)]) as server:
            found = asyncio.run(_within(given, server))
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = page(found)
    print(text)
    command = f"python -m benchmarks.soak --requests {given.requests} --clients {given.clients}"
    note = provenance(command, ("onnxruntime", "uvicorn", "h11"), str(given.seed))
    given.page.write_text(f"# Soak\n\n{text}\n{note}", "utf-8")
    return 1 if found.faults else 0


async def _within(given: argparse.Namespace, server: Server) -> Soaked:
    try:
        async with asyncio.timeout(given.limit):
            return await soak(server, given.requests, given.clients, given.seed)
    except TimeoutError as error:
        raise DataError(
            f"it takes more than {given.limit:g} s: ask for fewer --requests"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
