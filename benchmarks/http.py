"""`python -m benchmarks.http [ARTIFACTS]`: LuminaNet against GPT-2 over HTTP, and against itself
without HTTP.

Each model is served alone, in fp32 and in int8 (frozen from its checkpoint for that). So many
clients stream at once, each again as soon as its text has ended; models in turns, one of them asked
at a time. Time to first token is from sending; the wait between events is what a reader sees (an
event has the tokens of one call), the pace (last - first) / (tokens - 1) of a text. Beside it the
decode loop runs alone in this process, 32 rows that never end, with the same sampler and as many
tokens a call. Writes benchmarks/http.md.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import psutil

from benchmarks import wire
from benchmarks.report import provenance, table
from loadtest.workload import PROMPTS
from luminanet.artifact.manifest import Family, Served
from luminanet.errors import DataError, LuminaNetError
from luminanet.sampling import Sampling
from serving.engines.sequences import Caches, Sequences, Windows
from serving.measure.servers import Server, served
from serving.models.load import TextModel, load
from serving.settings import Settings

HERE = Path(__file__).parent
FREEZE = HERE.parent / "export" / "freeze.py"
STREAMS = (1, 8, 32, 128)
ROWS = 32
TOKENS = 128
TEMPERATURE, TOP_K = 0.8, 50
TEXT = b'data: {"text"'
LAST = re.compile(rb'"completion_tokens": (\d+)')
ANSWER_S = 120.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """One stream: seconds to its first event with text, between two of them, and tokens."""

    first_s: float
    gaps_s: Sequence[float]
    pace_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Block:
    """Streams of one model, so many at once, and how long all of them took."""

    seen: Sequence[Seen]
    seconds: float
    rss_bytes: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return sum(one.tokens for one in self.seen) / self.seconds


Blocks = Mapping[tuple[str, int], Sequence[Block]]
"""By family and number of streams."""


# ---------------------------------------------------------------------- over HTTP


async def stream(url: str, rng: random.Random, model: str) -> Seen:
    """Raises one of wire.BROKEN."""
    body = {
        "prompt": rng.choice(PROMPTS),
        "max_tokens": TOKENS,
        "temperature": TEMPERATURE,
        "top_k": TOP_K,
        "seed": rng.getrandbits(32),
        "model": model,
        "stream": True,
    }
    data, times, last = wire.post("/generate", body), [], b""
    async with asyncio.timeout(ANSWER_S), wire.Connection(url) as connection:
        begun_s = time.perf_counter()
        connection.send(data)
        head = await connection.head()
        async for part in connection.body(head):
            if TEXT in part:
                times.append(time.perf_counter())
            last = part
    found = LAST.search(last)
    if head.status != 200 or found is None or not times:
        raise DataError(f"no stream came to its end: {head.status} {last[-200:]!r}")
    tokens = int(found[1])
    pace_s = (times[-1] - times[0]) / max(1, tokens - 1)
    return Seen(times[0] - begun_s, np.diff(times).tolist(), pace_s, tokens)


async def block(server: Server, model: str, streams: int, seconds: float, seed: int) -> Block:
    """Every client sends one text at least. Raises DataError when one does not come whole."""
    seen: list[Seen] = []
    begun_s = time.perf_counter()

    async def client(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        while True:
            seen.append(await stream(server.url, rng, model))
            if time.perf_counter() > begun_s + seconds:
                return

    try:
        await asyncio.gather(*(client(number) for number in range(streams)))
    except (TimeoutError, *wire.BROKEN) as error:
        raise DataError(f"{model}, {streams} streams: {type(error).__name__}: {error}") from error
    rss = psutil.Process(server.pid).memory_info().rss
    return Block(seen, time.perf_counter() - begun_s, rss)


# ---------------------------------------------------------------------- without HTTP


def bare(model: TextModel) -> Callable[[float], float]:
    """The decode loop of a model: so many seconds -> tokens a second."""
    steps, rng = model.how.steps, random.Random(0)
    sequences: Sequences
    if model.prompts is None:
        sequences = Windows(model.backend, model.manifest, ROWS, steps, 1)
    else:
        sequences = Caches(model.backend, model.prompts, model.manifest, ROWS, steps, 1)

    def run(seconds: float) -> float:
        drawn, spent_s = 0, 0.0
        while spent_s < seconds:
            for row in range(ROWS):
                prompt = model.encode(rng.choice(PROMPTS))
                sequences.join(row, prompt, Sampling(TEMPERATURE, TOP_K, seed=row))
            begun_s = time.perf_counter()
            for _ in range(TOKENS // steps):
                sequences.draw(ROWS)
            spent_s += time.perf_counter() - begun_s
            drawn += ROWS * (TOKENS // steps) * steps
        return drawn / spent_s

    return run


# ---------------------------------------------------------------------- a run


def measure(artifacts: Path, precision: Served, given: argparse.Namespace) -> str:
    """The tables of a precision. Raises LuminaNetError."""
    settings = Settings(artifacts=artifacts)
    models = load(artifacts, settings.compute_threads, precision).text
    if set(models) != set(Family):
        raise DataError(f"there are not both text models under {artifacts}")
    names = [family.value for family in Family]
    loops = {family.value: bare(model) for family, model in models.items()}
    blocks: dict[tuple[str, int], list[Block]] = {}
    alone: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as open_:
        servers = {
            family.value: open_.enter_context(served(_flags(artifacts, model, precision)))
            for family, model in models.items()
        }
        for name, server in servers.items():
            asyncio.run(block(server, name, ROWS, 0, seed=1 << 20))
        for number in range(given.rounds):
            order = names if number % 2 else names[::-1]
            for streams in STREAMS:
                for name in order:
                    found = block(servers[name], name, streams, given.seconds, given.seed + number)
                    blocks.setdefault((name, streams), []).append(asyncio.run(found))
            for name in order:
                alone[name].append(loops[name](given.seconds))
            print(f"{precision}: round {number + 1} of {given.rounds}", file=sys.stderr)
    return f"## {precision}\n\n{_table(blocks, names)}\n{_ratios(blocks)}\n{_bare(blocks, alone)}"


def _flags(artifacts: Path, model: TextModel, precision: Served) -> list[str]:
    """Of a server with this model alone."""
    for manifest in artifacts.glob("**/manifest.json"):
        if json.loads(manifest.read_text("utf-8"))["name"] == model.manifest.name:
            waiting = ["--queue-seconds", "0"]  # of 128 streams three quarters wait, however long
            return ["--artifacts", str(manifest.parent), "--precision", precision, *waiting]
    raise DataError(f"{model.manifest.name} is not under {artifacts}")


def frozen(artifacts: Path, folder: Path, precision: Served) -> Path:
    """A folder with the text models in a precision, made of the checkpoints beside the artifacts.
    Raises DataError."""
    for checkpoint in sorted(artifacts.glob("*-tinystories/ckpt.pt")):
        out = folder / checkpoint.parent.name
        command = [sys.executable, str(FREEZE), str(checkpoint), "--out", str(out)]
        done = subprocess.run([*command, "--precision", precision], capture_output=True, text=True)
        if done.returncode:
            raise DataError(f"{checkpoint} cannot be frozen: {done.stderr.strip()[-300:]}")
    return folder


# ---------------------------------------------------------------------- the page


def _quantiles(values: Sequence[float], *qs: float) -> str:
    return ", ".join(f"{1e3 * float(np.quantile(values, q)):.2f}" for q in qs)


def _table(blocks: Blocks, names: Sequence[str]) -> str:
    rows = []
    for streams in STREAMS:
        for name in names:
            found = blocks[name, streams]
            seen = [one for each in found for one in each.seen]
            gaps = [gap for one in seen for gap in one.gaps_s]
            rows.append(
                [
                    str(streams),
                    name,
                    _quantiles([one.first_s for one in seen], 0.5, 0.99),
                    _quantiles(gaps, 0.5, 0.99),
                    _quantiles([one.pace_s for one in seen], 0.5, 0.99),
                    f"{statistics.median(one.rate for one in found):.0f}",
                    f"{max(one.rss_bytes for one in found) / MIB:.0f} MiB",
                ]
            )
    header = ["streams", "model", "first token, ms: p50, p99", "between events", "pace a token"]
    return table([*header, "tokens/s", "resident"], rows)


def _ratios(blocks: Blocks) -> str:
    """GPT-2's times over LuminaNet's, and LuminaNet's tokens/s over GPT-2's; within rounds."""
    rows = []
    for streams in STREAMS:
        both = [*zip(blocks["luminanet", streams], blocks["gpt2", streams], strict=True)]
        pick: Sequence[Callable[[Seen], float]] = (lambda s: s.first_s, lambda s: s.pace_s)
        times = [
            [float(np.median([*map(of, b.seen)]) / np.median([*map(of, a.seen)])) for a, b in both]
            for of in pick
        ]
        rates = [a.rate / b.rate for a, b in both]
        rows.append([str(streams), *(_spread(values) for values in (*times, rates))])
    note = "LuminaNet over GPT-2 within a round; above 1 LuminaNet is ahead.\n\n"
    return note + table(["streams", "first token", "pace a token", "tokens/s"], rows)


def _bare(blocks: Blocks, alone: Mapping[str, Sequence[float]]) -> str:
    rows = []
    for name, loop in alone.items():
        shares = [one.rate / rate for one, rate in zip(blocks[name, ROWS], loop, strict=True)]
        rows.append([name, f"{statistics.median(loop):.0f}", _spread(shares)])
    return table(
        ["model", f"decode loop at {ROWS}, tokens/s", f"share over HTTP, {ROWS} streams"], rows
    )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--precisions", default="fp32,int8", help="of them (default fp32,int8)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a block (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, default=HERE / "http.md", help="where the page goes")
    given = parser.parse_args(argv)
    asked: list[Served] = [one for one in get_args(Served) if one in given.precisions.split(",")]
    tables = []
    try:
        for precision in asked:
            with tempfile.TemporaryDirectory() as made:
                kept = precision == "fp32"
                folder = given.artifacts if kept else frozen(given.artifacts, Path(made), precision)
                tables.append(measure(folder, precision, given))
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = (
        f"Texts of up to {TOKENS} tokens, {given.rounds} rounds of {given.seconds:g} s for each "
        "number of streams; load and server share the machine.\n\n" + "\n".join(tables)
    )
    print(page)
    command = f"python -m benchmarks.http --rounds {given.rounds} --seconds {given.seconds:g}"
    note = provenance(command, ("onnxruntime", "uvicorn", "numpy"), str(given.seed))
    given.page.write_text(f"# Over HTTP\n\n{page}\n{note}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
