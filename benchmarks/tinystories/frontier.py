"""Two families of text models -> pairs, ratios and marks.

A LuminaNet is compared with the GPT-2 that is nearest in quality among those as good or better,
never with a weaker one. Quality is bits per byte with a full context, which compares between
tokenizers; of two models with one tokenizer, the better has the lower perplexity too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.report import table
from benchmarks.text.costs import DECODE, FP32, INT8, KINDS, LAST, POSITION, STEP
from benchmarks.text.entries import Entry

Figure = Callable[[Entry], float | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """A figure, where LuminaNet is to be at most so large a part of the GPT-2's."""

    name: str
    figure: Figure
    must: float
    aim: float | None = None


def timed(kind: str, precision: str, batch: int) -> Figure:
    return lambda e: e.ms.get(f"{kind} {precision} {batch}")


def bits(e: Entry) -> float:
    return e.quality.full.bits_per_byte


TIMES = {
    (FP32, 1): (0.6, 0.4),
    (FP32, 32): (0.6, 0.3),
    (INT8, 1): (0.9, 0.6),
    (INT8, 32): (0.6, 0.4),
}
MARKS = (
    Mark("perplexity", lambda e: e.quality.full.perplexity, 1.0, 0.95),
    Mark("bits per byte", bits, 1.0),
    Mark(f"MACs at position {POSITION}", lambda e: e.macs, 0.65, 0.4),
    Mark(f"state after position {LAST}", lambda e: e.state_bytes, 1 / 250),
    *(
        Mark(f"ms, {precision}, batch {batch} ({kind})", timed(kind, precision, batch), must, aim)
        for kind in KINDS
        for (precision, batch), (must, aim) in TIMES.items()
    ),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """`is_better`: no GPT-2 is as good as this LuminaNet, and the best one stands in."""

    ours: Entry
    theirs: Entry
    is_better: bool

    def ratio(self, mark: Mark) -> float | None:
        ours, theirs = mark.figure(self.ours), mark.figure(self.theirs)
        return ours / theirs if ours is not None and theirs else None


def pairs(luminanets: Sequence[Entry], gpt2s: Sequence[Entry]) -> list[Pair]:
    """One for each LuminaNet, the best first; none without a GPT-2."""
    if not gpt2s:
        return []
    found = []
    for ours in sorted(luminanets, key=bits):
        as_good = [e for e in gpt2s if bits(e) <= bits(ours)]
        theirs = max(as_good, key=bits) if as_good else min(gpt2s, key=bits)
        found.append(Pair(ours, theirs, not as_good))
    return found


def frontier(entries: Sequence[Entry], cost: Figure) -> list[Entry]:
    """Those that no other one beats in both quality and cost, the cheapest first."""
    known = [(found, bits(e), e) for e in entries if (found := cost(e)) is not None]
    kept, best = list[Entry](), float("inf")
    for _, quality, e in sorted(known, key=lambda one: one[:2]):
        if quality < best:
            kept.append(e)
            best = quality
    return kept


def compared(found: Sequence[Pair], kind: str = STEP) -> str:
    """One row a pair: LuminaNet's figures as parts of the GPT-2's."""
    other = DECODE if kind == STEP else STEP
    marks = [mark for mark in MARKS if not mark.name.endswith(f"({other})")]
    rows = []
    for pair in found:
        name = f"{pair.theirs.name}{' (the best, yet worse)' if pair.is_better else ''}"
        cells = [_cell(mark, pair.ratio(mark)) for mark in marks]
        rows.append([pair.ours.name, name, *cells])
    header = ["LuminaNet", "GPT-2 of equal or better quality", *(mark.name for mark in marks)]
    musts = ["mark", "", *(_share(mark.must) for mark in marks)]
    aims = ["aim", "", *("" if mark.aim is None else _share(mark.aim) for mark in marks)]
    return table(header, [*rows, musts, aims])


def _cell(mark: Mark, ratio: float | None) -> str:
    """Bold where the mark is met."""
    if ratio is None:
        return "-"
    text = _share(ratio, sign="")
    return f"**{text}**" if ratio <= mark.must else text


def _share(share: float, sign: str = "<= ") -> str:
    return f"{sign}{share:.3g}" if share >= 0.1 else f"{sign}1/{1 / share:.0f}"


def summary(found: Sequence[Pair]) -> str:
    """How many marks each LuminaNet meets, and which ones it misses."""
    lines = []
    for pair in found:
        ratios = [(mark, pair.ratio(mark)) for mark in MARKS]
        known = [(mark, share) for mark, share in ratios if share is not None]
        missed = [f"{mark.name} {_share(share, '')}" for mark, share in known if share > mark.must]
        text = f"misses {', '.join(missed)}" if missed else "meets all marks that were measured"
        lines.append(f"* {pair.ours.name} beside {pair.theirs.name} {text}.\n")
    return "".join(lines)
