"""Everything that is known of a text model, as JSON, and as tables of several models."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import table
from benchmarks.text.costs import BATCHES, FP32, INT8, LAST, POSITION, Key, macs, state_bytes
from benchmarks.text.models import TextModel
from benchmarks.text.quality import BLOCK, HALF, Figures, TextQuality, evaluate
from benchmarks.text.streams import Streams
from luminanet.artifact.manifest import Family
from luminanet.tokenizer import Tokenizer

OTHER = "*"
"""Marks a perplexity that does not compare with the first model's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. `macs` are of a token at position 128, `state_bytes` after position 255; the keys
    of `ms` are "kind precision batch", as in "step fp32 1". `stream` is a hash of the tokens that
    the quality is of."""

    name: str
    family: Family
    digest: str
    tokenizer: str
    vocab_size: int
    parameters: int
    macs: int
    state_bytes: int
    stream: str
    quality: TextQuality
    ms: Mapping[str, float] = field(default_factory=dict)
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "Entry":
        quality = TextQuality.from_dict(raw["quality"])
        return Entry(**{**raw, "family": Family(raw["family"]), "quality": quality})

    def timed(self, found: Mapping[Key, float]) -> "Entry":
        named = {
            f"{kind} {precision} {batch}": ms for (kind, precision, batch), ms in found.items()
        }
        return replace(self, ms=named)


def entry(model: TextModel, streams: Streams) -> Entry:
    """Evaluates a model on its tokenizer's stream. Raises DataError."""
    graph, ids_N = model.plain(), streams.of(model.tokenizer)
    return Entry(
        name=model.name,
        family=model.family,
        digest=model.digest,
        tokenizer=hashlib.sha256(model.tokenizer.encode()).hexdigest()[:8],
        vocab_size=Tokenizer.from_json(model.tokenizer).vocab_size,
        parameters=model.parameters,
        macs=macs(graph),
        state_bytes=state_bytes(graph),
        stream=hashed(ids_N),
        quality=evaluate(model, ids_N),
        command=model.command,
    )


def hashed(ids_N: NDArray[Any]) -> str:
    return hashlib.sha256(np.asarray(ids_N, np.int64).tobytes()).hexdigest()[:16]


# ---------------------------------------------------------------------- tables


def report(entries: Sequence[Entry]) -> str:
    """Quality, quality by position, costs; ratios are to the first GPT-2, if there is one."""
    base = next((e for e in entries if e.family is Family.GPT2), None)
    parts = [_quality(entries), _positions(entries), _costs(entries, base)]
    parts += [_times(entries, base, kind) for kind in _kinds(entries)]
    return "\n".join(parts)


def _quality(entries: Sequence[Entry]) -> str:
    first = entries[0].tokenizer

    def figures(e: Entry, of: Figures) -> list[str]:
        mark = "" if e.tokenizer == first else OTHER
        return [f"{of.perplexity:.2f}{mark}", f"{of.bits_per_byte:.3f}", f"{of.top1:.2%}"]

    rows = [
        [
            *(e.name, f"{e.parameters / 1e6:.2f} M", f"{e.vocab_size} ({e.tokenizer})"),
            *figures(e, e.quality.full),
            *figures(e, e.quality.blocks)[:2],
        ]
        for e in entries
    ]
    header = ["model", "parameters", "tokenizer", "perplexity", "bits per byte", "top-1"]
    shown = table([*header, f"perplexity, blocks of {BLOCK}", "bits per byte, blocks"], rows)
    note = (
        f"The first three figures are with a full context, more than {HALF} tokens before each; "
        f"blocks of {BLOCK} begin without any, as in benchmarks/quality.md.\n"
    )
    if any(e.tokenizer != first for e in entries):
        note += (
            f"\n**The models have different tokenizers**: a perplexity with {OTHER} is per token "
            "of another one and does not compare with the first model's; bits per byte do.\n"
        )
    return f"{shown}\n{note}"


def _positions(entries: Sequence[Entry]) -> str:
    names = list(entries[0].quality.positions)
    rows = []
    for e in entries:
        found = [e.quality.positions[name] for name in names]
        rows.append([e.name, *(f"{f.perplexity:.2f} / {f.bits_per_byte:.3f}" for f in found)])
    header = [f"position {name}" for name in names]
    return table(["perplexity / bits per byte", *header], rows)


def _costs(entries: Sequence[Entry], base: Entry | None) -> str:
    rows = [
        [
            e.name,
            f"{e.macs / 1e6:.2f} M{_of(e.macs, base.macs if base else 0)}",
            f"{e.state_bytes:,} B{_of(e.state_bytes, base.state_bytes if base else 0)}",
        ]
        for e in entries
    ]
    header = [f"MACs of a token at position {POSITION}", f"state after position {LAST}"]
    return table(["model", *header], rows)


def _kinds(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(key.split()[0] for e in entries for key in e.ms))


def _times(entries: Sequence[Entry], base: Entry | None, kind: str) -> str:
    keys = [f"{kind} {p} {batch}" for p in (FP32, INT8) for batch in BATCHES]

    def cell(e: Entry, key: str) -> str:
        if key not in e.ms:
            return "-"
        return f"{e.ms[key]:.3f}{_of(e.ms[key], base.ms.get(key, 0) if base else 0)}"

    rows = [[e.name, *(cell(e, key) for key in keys)] for e in entries]
    header = [f"{p}, batch {batch}" for p in (FP32, INT8) for batch in BATCHES]
    return table([f"ms a token ({kind} graph)", *header], rows)


def _of(figure: float, base: float) -> str:
    """What share of the base's a figure is; nothing without a base (0)."""
    if not base:
        return ""
    share = figure / base
    return f" ({share:.2f}x)" if share >= 0.1 else f" (1/{1 / share:.0f})"
