"""The runs of tuning.py, as data: what is tried for GPT-2, and for LuminaNet beside it."""

from dataclasses import asdict, dataclass, replace
from math import exp
from typing import Any

from training.config import TextConfig
from training.presets import TEXT_PRESETS

GPT2, LUMINANET, RECALLING = "gpt2", "tinystories-echo-wide", "tinystories-recall"
GPT2_ONLY = ("head_width", "deviation")
STEPS = 450
CHECK_EVERY = 150


@dataclass(frozen=True, slots=True)
class Try:
    """One run; what it does not name, such as batch and context, is its preset's."""

    preset: str
    width: int
    rate: float
    steps: int = STEPS
    dropout: float = 0.0
    habit_dropout: float | None = None
    """Of a LuminaNet; None for the preset's."""
    weight_decay: float = 0.1
    beta2: float = 0.98
    warmup: float = 0.05
    final_rate: float = 0.0
    head_width: int = 32
    deviation: float = 0.02
    teacher: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its folder: preset, width, rate, steps, and what differs from the defaults."""
        return "-".join(
            [self.preset, str(self.width), f"{self.rate:g}", str(self.steps), *self.changes]
        )

    @property
    def changes(self) -> list[str]:
        """Each option that is not at its default, as a word such as beta2=0.95."""
        usual, own = asdict(Try(self.preset, self.width, self.rate, self.steps)), asdict(self)
        return [f"{name}={own[name]}" for name in usual if own[name] != usual[name]]

    def config(self) -> TextConfig:
        own = {name: value for name, value in asdict(self).items() if value is not None}
        if self.preset != GPT2:
            own = {name: value for name, value in own.items() if name not in GPT2_ONLY}
        named = own | {"learning_rate": own.pop("rate"), "check_every": CHECK_EVERY}
        return TEXT_PRESETS[self.preset].having(**named)


@dataclass(frozen=True, slots=True)
class Tried:
    """A finished run: held-out loss in nats a token, the same after some steps, and its origin."""

    what: Try
    loss: float
    curve: tuple[tuple[int, float], ...]
    parameters: int
    seconds: float
    made: str
    """Machine, versions and date."""

    @property
    def perplexity(self) -> float:
        return exp(self.loss)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "Tried":
        curve = tuple((int(step), float(loss)) for step, loss in raw["curve"])
        return cls(**{**raw, "what": Try(**raw["what"]), "curve": curve})


WARMUP = 0.4
SPREAD = {64: 0.07, 128: 0.05, 192: 0.04, 256: 0.035, 320: 0.031, 384: 0.03}
"""Width of a GPT-2 -> deviation of its first weights: the paper's 0.02 at a width of 768, such that
sums over a row have the same spread (0.02 sqrt(768 / width), rounded)."""


def mended(width: int, rate: float, **changes: Any) -> Try:
    """A try of GPT-2 with a longer warm-up and first weights that fit the width."""
    return Try(GPT2, width, rate, **{"warmup": WARMUP, "deviation": SPREAD[width], **changes})


def recalling(steps: int = 5400, dropout: float = 0.1, habit: float = 0.5, seed: int = 0) -> Try:
    """A try of the LuminaNet that recalls twice."""
    shared = Try(RECALLING, 112, 8e-3, steps, warmup=0.2, seed=seed)
    return replace(shared, dropout=dropout, habit_dropout=habit)


TRIES = (
    *(Try(GPT2, 64, rate) for rate in (2e-3, 3e-3, 5e-3, 8e-3, 1.2e-2)),
    Try(GPT2, 128, 3e-3),
    Try(GPT2, 128, 3e-3, deviation=0.05),
    Try(GPT2, 128, 3e-3, warmup=0.2),
    Try(GPT2, 128, 3e-3, deviation=0.1),
    Try(GPT2, 128, 3e-3, deviation=0.05, warmup=0.2),
    Try(GPT2, 128, 5e-3, deviation=0.05, warmup=0.2),
    Try(GPT2, 128, 8e-3, deviation=0.05, warmup=0.2),
    Try(GPT2, 128, 3e-3, deviation=0.1, warmup=0.2),
    Try(GPT2, 384, 3e-3, deviation=0.05, warmup=0.2),
    Try(GPT2, 128, 8e-3, deviation=0.035, warmup=0.2),
    mended(128, 8e-3),
    mended(384, 3e-3, warmup=0.2),
    mended(128, 1.2e-2),
    mended(384, 5e-3),
    mended(128, 8e-3, beta2=0.95),
    Try(LUMINANET, 112, 5e-3),
    Try(GPT2, 384, 3e-3, warmup=0.2),
    mended(384, 3e-3),
    mended(384, 3e-3, warmup=0.2, steps=900),
    mended(128, 5e-3),
    *(mended(64, rate) for rate in (8e-3, 1.2e-2, 2e-2)),
    Try(GPT2, 384, 3e-3),
    mended(384, 2e-3),
    mended(384, 3e-3, warmup=0.2, steps=2700),
    mended(384, 3e-3, warmup=0.2, steps=2700, seed=1),
    mended(64, 3e-2),
    *(mended(256, rate) for rate in (5e-3, 3e-3, 8e-3)),
    mended(128, 8e-3, weight_decay=0.3),
    mended(128, 8e-3, dropout=0.1),
    mended(128, 8e-3, head_width=64),
    Try(LUMINANET, 112, 5e-3, warmup=0.2),
    Try(LUMINANET, 112, 5e-3, steps=2700),
    Try(LUMINANET, 112, 5e-3, steps=2700, warmup=0.2),
    Try(LUMINANET, 112, 8e-3),
    *(Try(LUMINANET, 112, rate, warmup=0.2) for rate in (8e-3, 3e-3)),
    mended(384, 3e-3, warmup=0.2, steps=5400, dropout=0.1),
    recalling(2700, dropout=0.0, habit=0.3),
    recalling(2700),
    *(recalling(seed=seed) for seed in (0, 1)),
    mended(384, 3e-3, warmup=0.2, steps=5400, dropout=0.1, seed=1),
    mended(256, 5e-3, warmup=0.2, steps=5400, dropout=0.1),
    mended(128, 8e-3, warmup=0.2, steps=5400),
    *(mended(192, rate) for rate in (5e-3, 8e-3)),
    *(mended(320, rate) for rate in (3e-3, 5e-3)),
    mended(128, 8e-3, weight_decay=0.01),
    mended(128, 8e-3, beta2=0.99),
    mended(128, 8e-3, final_rate=0.1),
)
"""In the order in which they are done; what came first decided what came later."""
