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
# What the cifar10 preset is measured against: other policies, less to work with, no evolution;
# "lean" goes on after building and removes what is not missed.
ABLATIONS = {
    "cifar10-random": replace(_CIFAR10, evolution=replace(_EVOLUTION, policy="random")),
    "cifar10-hebbian": replace(_CIFAR10, evolution=replace(_EVOLUTION, policy="hebbian")),
    "cifar10-unconnected": replace(_CIFAR10, evolution=replace(_EVOLUTION, connections=0)),
    "cifar10-pass1": replace(_CIFAR10, evolution=replace(_EVOLUTION, kinds=(Kind.FEEDFORWARD,))),
    "cifar10-dense": replace(_CIFAR10, seeding="dense", width=148, evolution=None),
    "cifar10-sparse": replace(_CIFAR10, evolution=_SPARSE),
    "cifar10-sparse-random": replace(_CIFAR10, evolution=replace(_SPARSE, policy="random")),
    "cifar10-lean": replace(_CIFAR10, evolution=_LEAN),
    "cifar10-lean-random": replace(_CIFAR10, evolution=replace(_LEAN, policy="random")),
    "cifar10-unwhitened": replace(_CIFAR10, whiten=0.0),
    **{f"cifar10-channel{n}": replace(_CIFAR10, channel=n) for n in (10, 32, 84, 128)},
}
_BASELINE = replace(
    _CIFAR10, model="lenet5", seeding="", width=0, channel=0, whiten=0.0, evolution=None
)
PRESETS = {
    config.preset: config
    for config in (
        _CIFAR10,
        replace(_CIFAR10, preset="cifar10-paper", seeding="paper"),
        replace(_CIFAR10, preset="cifar10-distilled", teacher=TEACHER, smoothing=0.0),
        _TINYSTORIES,
        replace(_TINYSTORIES, preset="tinystories-bus", seeding="bus", evolution=None),
        replace(
            _TINYSTORIES,
            preset="tinystories-bus-wide",
            seeding="bus",
            learning_rate=5e-3,
            width=200,
            evolution=None,
        ),
        _DISTILLED_TEXT,
        _ECHO,
        replace(
            _ECHO,
            preset="tinystories-echo-wide",
            width=112,
            evolution=replace(_ECHO_EVOLUTION, max_macs=2_050_000, max_parameters=3_400_000),
        ),
        replace(_ECHO, preset="tinystories-echo-bus", seeding="echo-bus", width=96, evolution=None),
        replace(_GPT2, preset="gpt2-distilled", teacher=TEXT_TEACHER, distill=0.8),
        *(replace(config, preset=name) for name, config in _EVOLVED.items()),
        _GPT2,
        replace(
            _GPT2,
            preset="gpt2-teacher",
            layers=2,
            steps=3300,
            learning_rate=2e-3,
            dropout=0.15,
        ),
        *(replace(config, preset=name) for name, config in ABLATIONS.items()),
        *(
            replace(_BASELINE, preset=name, model=name, learning_rate=rate)
            for name, rate in LEARNING_RATES.items()
        ),
    )
}
