"""The named presets: recipes for `python -m training.train --preset NAME`."""

from dataclasses import replace

from luminanet.topology import Kind
from training.config import LEARNING_RATES, DataSet, EvolutionConfig, TrainConfig

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
_CIFAR10 = TrainConfig(
    preset="cifar10",
    data_set=DataSet.CIFAR10,
    model="luminanet",
    seeding="fine",
    steps=20000,
    batch=512,
    learning_rate=2e-3,
    width=116,
    channel=64,
    mixup=0.5,
    smoothing=0.1,
    whiten=0.1,
    evolution=_EVOLUTION,
)
_TINYSTORIES = TrainConfig(
    preset="tinystories",
    data_set=DataSet.TINYSTORIES,
    model="luminanet",
    seeding="lags",
    steps=2700,
    batch=16,
    learning_rate=3e-3,
    weight_decay=0.1,
    beta2=0.98,
    clip=1.0,
    width=128,
    channel=64,
    evolution=EvolutionConfig(
        events=8, max_parameters=1_400_000, max_level=1, max_width=192, stop=0.3, connections=5
    ),
)
_GPT2 = replace(_TINYSTORIES, preset="gpt2", model="gpt2", seeding="", width=256, evolution=None)
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
    f"tinystories-evolved-{channel}": replace(
        _TINYSTORIES,
        seeding="few",
        channel=channel,
        width=width,
        shared_gates=True,
        evolution=_FIELDS,
    )
    for channel, width in ((128, 96), (256, 64), (384, 48))
}
_DISTILLED_TEXT = replace(
    _TINYSTORIES,
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
_ECHO = replace(
    _DISTILLED_TEXT,
    preset="tinystories-echo",
    seeding="echo",
    learning_rate=5e-3,
    width=80,
    channel=64,
    habit_dropout=0.3,
    evolution=_ECHO_EVOLUTION,
)
_LEAN = replace(_EVOLUTION, events=40, stop=0.6)
_SPARSE = replace(_EVOLUTION, max_connections=64)
_BASELINE = replace(
    _CIFAR10, model="lenet5", seeding="", width=0, channel=0, whiten=0.0, evolution=None
)
# What the cifar10 preset is measured against (benchmarks/ablations.py): other policies, less to
# work with, no evolution; "lean" goes on after building and removes what is not missed.
_ABLATIONS = {
    "cifar10-random": (
        "changes ranked by chance",
        replace(_CIFAR10, evolution=replace(_EVOLUTION, policy="random")),
    ),
    "cifar10-hebbian": (
        "changes ranked by what fires together",
        replace(_CIFAR10, evolution=replace(_EVOLUTION, policy="hebbian")),
    ),
    "cifar10-unconnected": (
        "no connections",
        replace(_CIFAR10, evolution=replace(_EVOLUTION, connections=0)),
    ),
    "cifar10-pass1": (
        "feedforward connections only",
        replace(_CIFAR10, evolution=replace(_EVOLUTION, kinds=(Kind.FEEDFORWARD,))),
    ),
    "cifar10-dense": (
        "connected from the start, no evolution",
        replace(_CIFAR10, seeding="dense", width=148, evolution=None),
    ),
    "cifar10-sparse": ("at most 64 connections", replace(_CIFAR10, evolution=_SPARSE)),
    "cifar10-sparse-random": (
        "at most 64 connections, ranked by chance",
        replace(_CIFAR10, evolution=replace(_SPARSE, policy="random")),
    ),
    "cifar10-lean": ("prunes after building", replace(_CIFAR10, evolution=_LEAN)),
    "cifar10-lean-random": (
        "prunes after building, ranked by chance",
        replace(_CIFAR10, evolution=replace(_LEAN, policy="random")),
    ),
    "cifar10-unwhitened": ("pixels as they are", replace(_CIFAR10, whiten=0.0)),
    **{
        f"cifar10-channel{n}": (f"messages of {n} numbers", replace(_CIFAR10, channel=n))
        for n in (10, 32, 84, 128)
    },
}
ABLATIONS = tuple(_ABLATIONS)
"""The presets that are for an ablation only."""
_PRESETS: tuple[tuple[str, TrainConfig], ...] = (
    ("LuminaNet on CIFAR-10, evolves from fine patches", _CIFAR10),
    (
        "starts from the paper's channel-wise patches",
        replace(_CIFAR10, preset="cifar10-paper", seeding="paper"),
    ),
    (
        "the shipped one; train resnet18-1m, its teacher, first",
        replace(_CIFAR10, preset="cifar10-distilled", teacher=TEACHER, smoothing=0.0),
    ),
    *(
        (f"ablation: {words}", replace(config, preset=name))
        for name, (words, config) in _ABLATIONS.items()
    ),
    *(
        (
            "baseline on CIFAR-10" + (", at LuminaNet's size" if name.endswith("-1m") else ""),
            replace(_BASELINE, preset=name, model=name, learning_rate=rate),
        )
        for name, rate in LEARNING_RATES.items()
    ),
    ("LuminaNet on TinyStories, evolves from single lags", _TINYSTORIES),
    (
        "levels connected from the start, no evolution",
        replace(_TINYSTORIES, preset="tinystories-bus", seeding="bus", evolution=None),
    ),
    (
        "the same, wider: at the cost of tinystories-echo",
        replace(
            _TINYSTORIES,
            preset="tinystories-bus-wide",
            seeding="bus",
            learning_rate=5e-3,
            width=200,
            evolution=None,
        ),
    ),
    ("without recalls and echoes; train gpt2-teacher first", _DISTILLED_TEXT),
    ("recalls and echoes; train gpt2-teacher first", _ECHO),
    (
        "the shipped one, a wider tinystories-echo",
        replace(
            _ECHO,
            preset="tinystories-echo-wide",
            width=112,
            evolution=replace(_ECHO_EVOLUTION, max_macs=2_050_000, max_parameters=3_400_000),
        ),
    ),
    (
        "tinystories-echo with connected levels, no evolution",
        replace(_ECHO, preset="tinystories-echo-bus", seeding="echo-bus", width=96, evolution=None),
    ),
    *(
        (
            f"receptive fields evolve, messages of {config.channel} numbers",
            replace(config, preset=name),
        )
        for name, config in _EVOLVED.items()
    ),
    ("the baseline on TinyStories", _GPT2),
    (
        "the baseline; train gpt2-teacher first",
        replace(_GPT2, preset="gpt2-distilled", teacher=TEXT_TEACHER, distill=0.8),
    ),
    (
        "two layers, the teacher of text networks",
        replace(
            _GPT2,
            preset="gpt2-teacher",
            layers=2,
            steps=3300,
            learning_rate=2e-3,
            dropout=0.15,
        ),
    ),
)
PRESETS = {config.preset: config for _, config in _PRESETS}
WORDS = {config.preset: words for words, config in _PRESETS}
"""What each preset is, in a few words."""


def listing() -> str:
    """A line for each preset."""
    return "\n".join(f"{name:<24}{words}" for name, words in WORDS.items())
