"""The named presets: recipes for `python -m training.train --preset NAME`."""

from collections.abc import Mapping
from dataclasses import replace

from training.config import (
    LEARNING_RATES,
    EvolutionConfig,
    Gpt2Model,
    ImageBaseline,
    ImageConfig,
    ImageLuminaNet,
    TextConfig,
    TextLuminaNet,
    TrainConfig,
)

TEACHER = "runs/resnet18-1m/ckpt.pt"
TEXT_TEACHER = "runs/gpt2-teacher/ckpt.pt"
"""Where the presets of these names leave their checkpoints."""
_EVOLUTION = EvolutionConfig(
    stop=0.2,
    events=20,
    building=20,
    max_parameters=1_195_000,
    max_level=1,
    max_width=148,
    connections=24,
)
_CIFAR10 = ImageConfig(
    preset="cifar10",
    model=ImageLuminaNet(seeding="fine", width=116, channel=64, whiten=0.1, evolution=_EVOLUTION),
    steps=20000,
    batch=512,
    learning_rate=2e-3,
    mixup=0.5,
    smoothing=0.1,
)
_TINYSTORIES = TextConfig(
    preset="tinystories",
    model=TextLuminaNet(
        seeding="lags",
        width=128,
        channel=64,
        evolution=EvolutionConfig(
            events=8, max_parameters=1_400_000, max_level=1, max_width=192, stop=0.3, connections=5
        ),
    ),
    steps=2700,
    batch=16,
    learning_rate=3e-3,
    weight_decay=0.1,
    beta2=0.98,
    clip=1.0,
)
# Tuned (benchmarks/tinystories/tuning.md): first weights that fit the width, a long warm-up, twice
# the steps with dropout. The best rate goes as 1 / width.
_GPT2 = replace(
    _TINYSTORIES,
    preset="gpt2",
    model=Gpt2Model(width=384, dropout=0.1, deviation=0.03),
    steps=5400,
    warmup=0.2,
)
_FIELDS = EvolutionConfig(
    events=12,
    building=10,
    max_parameters=1_400_000,
    max_macs=1_250_000,
    max_clusters=8,
    max_level=1,
    start=0.1,
    stop=0.45,
    connections=0,
    grown=0,
    fields=3,
    buses=True,
    cost="latency",
)
# Receptive fields that evolve from a handful of clusters, with the paper's d_hidden; widths are
# such that both buses still fit into the budget.
_EVOLVED = {
    f"tinystories-evolved-{channel}": _TINYSTORIES.having(
        seeding="few", channel=channel, width=width, shared_gates=True, evolution=_FIELDS
    )
    for channel, width in ((128, 96), (256, 64), (384, 48))
}
_DISTILLED_TEXT = _TINYSTORIES.having(
    preset="tinystories-distilled",
    seeding="lean",
    channel=32,
    shared_gates=True,
    teacher=TEXT_TEACHER,
    distill=0.8,
    evolution=replace(_FIELDS, max_parameters=1_700_000, max_macs=1_235_000),
)
# Echoes and recalls, a small budget to connect levels and grow in; the wide one is shipped.
_ECHO_EVOLUTION = replace(
    _FIELDS,
    events=10,
    building=8,
    start=0.04,
    stop=0.4,
    max_parameters=3_100_000,
    max_macs=1_750_000,
    max_width=192,
    neurons=16,
    grown=1,
    fields=1,
    pruned=0.0,
)
_ECHO = _DISTILLED_TEXT.having(
    preset="tinystories-echo",
    seeding="echo",
    learning_rate=5e-3,
    width=80,
    channel=64,
    habit_dropout=0.3,
    evolution=_ECHO_EVOLUTION,
)
# 75 narrow clusters that do not hear each other, of which 24 are left after 8 % of the run: dense,
# and as wide as the budget allows.
_SELECTION = replace(
    _EVOLUTION,
    policy="worth",
    start=0.08,
    stop=0.08,
    events=1,
    selected=24,
    buses=True,
    max_macs=950_000,
)
_SELECTED = _CIFAR10.having(
    preset="cifar10-selected", seeding="overproduced", width=32, evolution=_SELECTION
)
_PRESETS: tuple[tuple[str, TrainConfig], ...] = (
    ("LuminaNet on CIFAR-10, evolves from fine patches", _CIFAR10),
    (
        "starts from the paper's channel-wise patches",
        _CIFAR10.having(preset="cifar10-paper", seeding="paper"),
    ),
    (
        "the shipped one; train resnet18-1m, its teacher, first",
        replace(_CIFAR10, preset="cifar10-distilled", teacher=TEACHER, smoothing=0.0),
    ),
    ("many receptive fields at first, pruned by their worth", _SELECTED),
    (
        "the control: pruned by chance",
        _SELECTED.having(
            preset="cifar10-selected-random",
            evolution=replace(_SELECTION, policy="random"),
        ),
    ),
    *(
        (
            "baseline on CIFAR-10" + (", at LuminaNet's size" if name.endswith("-1m") else ""),
            replace(_CIFAR10, preset=name, model=ImageBaseline(name), learning_rate=rate),
        )
        for name, rate in LEARNING_RATES.items()
    ),
    ("LuminaNet on TinyStories, evolves from single lags", _TINYSTORIES),
    ("without recalls and echoes; train gpt2-teacher first", _DISTILLED_TEXT),
    ("recalls and echoes; train gpt2-teacher first", _ECHO),
    (
        "a wider tinystories-echo",
        _ECHO.having(
            preset="tinystories-echo-wide",
            width=112,
            evolution=replace(_ECHO_EVOLUTION, max_macs=2_050_000, max_parameters=3_400_000),
        ),
    ),
    (
        "the shipped one: recalls twice, echoes its whole window",
        _ECHO.having(
            preset="tinystories-recall",
            seeding="recall",
            teacher="",
            steps=5400,
            learning_rate=8e-3,
            warmup=0.2,
            width=112,
            dropout=0.1,
            habit_dropout=0.5,
            evolution=replace(_ECHO_EVOLUTION, max_macs=2_080_000, max_parameters=3_450_000),
        ),
    ),
    *(
        (
            f"receptive fields evolve, messages of {name.rpartition('-')[2]} numbers",
            replace(config, preset=name),
        )
        for name, config in _EVOLVED.items()
    ),
    ("the baseline on TinyStories, shipped", _GPT2),
    (
        "the baseline; train gpt2-teacher first",
        replace(_GPT2, preset="gpt2-distilled", teacher=TEXT_TEACHER, distill=0.8),
    ),
    (
        "two layers, the teacher of text networks",
        _GPT2.having(
            preset="gpt2-teacher",
            layers=2,
            width=256,
            steps=3300,
            learning_rate=2e-3,
            warmup=0.05,
            deviation=0.02,
            dropout=0.15,
        ),
    ),
)
IMAGE_PRESETS = {c.preset: c for _, c in _PRESETS if isinstance(c, ImageConfig)}
TEXT_PRESETS = {c.preset: c for _, c in _PRESETS if isinstance(c, TextConfig)}
PRESETS: Mapping[str, TrainConfig] = {**IMAGE_PRESETS, **TEXT_PRESETS}
WORDS = {config.preset: words for words, config in _PRESETS}
"""What each preset is, in a few words."""


def listing() -> str:
    """A line for each preset."""
    return "\n".join(f"{name:<24}{words}" for name, words in WORDS.items())
