"""TrainConfig: every choice of a run in one place; presets.py names recipes."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from luminanet.errors import ConfigError
from luminanet.topology import Kind
from training.precision import AUTO, BF16, PRECISIONS
from training.topologies import SEEDINGS

BEFORE: Mapping[str, Any] = {"precision": BF16}
"""Settings that older runs do not name, and what those did where it is not the default."""


class DataSet(StrEnum):
    CIFAR10 = "cifar10"
    TINYSTORIES = "tinystories"


@dataclass(frozen=True, slots=True)
class EvolutionConfig:
    """When, how and how far a network changes itself; start and stop are shares of all steps."""

    policy: str = "gradient"
    """Who ranks what to change: random, gradient or hebbian (evolution/policies.py)."""
    start: float = 0.02
    stop: float = 0.4
    events: int = 24
    building: int = 24
    """The first events, which also add; those after them only remove."""
    max_parameters: int = 1_150_000
    max_macs: int = 0
    """Multiply-accumulates per image or token; 0 for no limit, as for the next two."""
    max_clusters: int = 0
    max_connections: int = 0
    max_level: int = 2
    max_width: int = 128
    neurons: int = 32
    """Neurons that one growth adds, or one shrinking removes."""
    connections: int = 12
    """Connections that one event adds at most."""
    kinds: tuple[Kind, ...] = tuple(Kind)
    """Kinds of connections that may be made; with feedforward alone, pass 2 changes nothing."""
    grown: int = 3
    """Clusters that one event grows at most."""
    pruned: float = 0.05
    """Share of the connections, young ones left out, that one event prunes."""
    price: float = 0.05
    """What compute is worth: a removal may cost this share of the held-out loss times the share
    of the cost that it saves, or it is taken back."""
    cost: str = "macs"
    """What compute is counted in: macs, or latency (evolution/budget.py)."""
    max_latency_us: float = 0.0
    """Predicted microseconds of a decoding step (luminanet/cost/latency.py); 0 for no limit."""
    fields: int = 0
    """Receptive fields of text clusters that one event adds or refines at most; with 0 they stay
    as they are."""
    buses: bool = False
    """Whether whole levels may be connected at once."""

    def __post_init__(self) -> None:
        if self.cost not in ("macs", "latency"):
            raise ConfigError(f"cost {self.cost!r} is neither macs nor latency")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run. `batch` counts images, or sequences of `context` tokens."""

    preset: str
    data_set: DataSet
    model: str
    steps: int
    batch: int
    learning_rate: float
    seed: int = 0
    optimizer: str = "adamw"
    """adamw, or eg: exponentiated gradients for LuminaNet's synapses (step/exponentiated.py)."""
    weight_decay: float = 0.05
    beta2: float = 0.99
    warmup: float = 0.05
    """Share of the run in which the learning rate rises."""
    final_rate: float = 0.0
    """Share of the peak at which the cosine of the learning rate ends."""
    ema: float = 0.998
    gate_rate: float = 5.0
    """Learning rate of the gates relative to the other weights."""
    clip: float = 0.0
    """Largest gradient norm; 0 for no limit."""
    dropout: float = 0.0
    habit_dropout: float = 0.0
    """Share of a batch's tokens that do without what a text LuminaNet knows by heart."""
    mixup: float = 0.0
    smoothing: float = 0.0
    teacher: str = ""
    """Checkpoint of a baseline (of text: a GPT-2) whose answers are learned beside the labels
    (step/distillation.py)."""
    distill: float = 0.6
    """The teacher's share in the targets; its labels have the rest."""
    whiten: float = 0.0
    """Variance below which directions of a patch are not brought to 1 (whitening.py); 0: none."""
    augment: bool = True
    """Random crops and mirrors."""
    context: int = 256
    vocab_size: int = 4096
    width: int = 128
    layers: int = 1
    """Of a gpt2."""
    head_width: int = 32
    """Of a gpt2: it has width / head_width heads."""
    deviation: float = 0.02
    """Of a gpt2's first weights: the paper's; 0 for one that fits the width (baselines/gpt2.py)."""
    channel: int = 64
    seeding: str = ""
    """The topology that the run starts from (topologies.py)."""
    shared_gates: bool = False
    """One gate per source for all clusters of a level that hear the same: they hear one sum."""
    evolution: EvolutionConfig | None = None
    held_out: float = 0.04
    """Share of the training data kept apart to judge mutations; never trained on."""
    check_every: int = 250
    """Steps between evaluations and resumable saves."""
    compile: bool = False
    """Compile the network (torch.compile) once it has stopped changing: for long runs on CUDA."""
    precision: str = AUTO
    """Of products: fp32, bf16, or what the hardware is faster in (precision.py)."""
    seconds: float = 0.0
    """Training time after which the run ends if `steps` have not ended it; 0 for no limit."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ConfigError("steps and batch must be at least 1")
        if self.seconds < 0:
            raise ConfigError("seconds must not be negative")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning rate {self.learning_rate} is not between 0 and 1")
        if not (0 < self.beta2 < 1 and 0 <= self.warmup < 1 and 0 <= self.final_rate <= 1):
            raise ConfigError("beta2, warmup and final rate must be between 0 and 1")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer {self.optimizer!r} is none of {list(OPTIMIZERS)}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision {self.precision!r} is none of {list(PRECISIONS)}")
        if self.whiten < 0:
            raise ConfigError("whiten must not be negative")
        if self.whiten and (self.is_text or self.model != "luminanet"):
            raise ConfigError("whitened pixels are for an image LuminaNet: leave out --whiten")
        if self.whiten and self.optimizer == "eg":
            raise ConfigError("eg keeps the signs of plain weights: add --whiten 0")
        if self.optimizer == "eg" and self.model != "luminanet":
            raise ConfigError(f"{self.model} learns by adamw only: leave out --optimizer")
        if self.model not in MODELS:
            raise ConfigError(f"model {self.model!r} is none of {sorted(MODELS)}")
        if not 0 <= self.distill <= 1:
            raise ConfigError(f"a share of {self.distill} for the teacher is not between 0 and 1")
        if self.smoothing and self.is_text:
            raise ConfigError("labels of text are not smoothed: leave out --smoothing")
        if not 0 <= self.habit_dropout <= 1:
            raise ConfigError(f"habit dropout {self.habit_dropout} is not between 0 and 1")
        if self.habit_dropout and (self.model != "luminanet" or not self.is_text):
            raise ConfigError("a text LuminaNet alone has habits: leave out --habit-dropout")
        if self.layers < 1 or (self.layers > 1 and self.model != "gpt2"):
            raise ConfigError("layers are for a gpt2, one at least: leave out --layers")
        if self.head_width < 1 or self.deviation < 0:
            raise ConfigError("heads must be 1 wide at least, and a deviation not be negative")
        if self.model != "gpt2" and (self.head_width, self.deviation) != (32, 0.02):
            raise ConfigError("only a gpt2 has them: leave out --head-width and --deviation")
        if self.model == "luminanet" and self.seeding not in SEEDINGS:
            raise ConfigError(f"seeding {self.seeding!r} is none of {sorted(SEEDINGS)}")
        text_only = self.evolution is not None and (
            self.evolution.cost == "latency" or self.evolution.max_latency_us
        )
        if text_only and not self.is_text:
            raise ConfigError("latency is predicted for text only: use the cost macs")
        if text_only and not self.shared_gates:
            raise ConfigError("latency is predicted for shared gates: use them, or the cost macs")
        if self.model != "luminanet" and self.evolution is not None:
            raise ConfigError(f"{self.model} does not evolve: leave out --evolution-events")
        if self.model in LEARNING_RATES and (self.width or self.channel or self.dropout):
            raise ConfigError(
                f"{self.model} has the sizes of its paper and no dropout: "
                "leave out --width, --channel and --dropout"
            )

    @property
    def is_text(self) -> bool:
        return self.data_set is DataSet.TINYSTORIES

    def done(self, step: int, elapsed_s: float) -> float:
        """The share of the run that lies behind, by steps or by time, whichever is further."""
        by_time = elapsed_s / self.seconds if self.seconds else 0.0
        return max(step / self.steps, by_time)

    def differing(self, saved: Mapping[str, Any]) -> list[str]:
        """Names of the settings that a saved `to_dict` has otherwise. The precision `auto` is that
        of any run."""
        before = completed(saved)
        wanted = self.to_dict()
        if self.precision == AUTO:
            before["precision"] = AUTO
        return sorted(n for n in {*wanted, *before} if before.get(n) != wanted.get(n))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as `to_dict` of an earlier version gave it, with the options that came
    since: their defaults, or BEFORE, are what all runs before them did."""
    defaults = {f.name: f.default for f in fields(TrainConfig) if f.default is not MISSING}
    defaults |= BEFORE
    evolution = saved.get("evolution")
    if evolution is not None:
        evolution = json.loads(json.dumps(asdict(EvolutionConfig()))) | evolution
    return defaults | dict(saved) | {"evolution": evolution}


# Of the networks in training.baselines.registry, for AdamW with batches of 512. 2e-3 serves
# LuminaNet and what is small or normalised by batches (MobileViT's paper has it too); 1e-3 is
# Mixer-S's, and serves where the paper's own rule asks for less (DeiT: 5e-4 at 512, for 300
# epochs of ImageNet), ResMLP of that size, and AlexNet, which normalises nothing. Checked for
# steady first steps, not tuned: `--learning-rate` changes it.
LEARNING_RATES = {
    "lenet5": 2e-3,
    "alexnet": 1e-3,
    "mlp-mixer": 1e-3,
    "resmlp": 1e-3,
    "deit-tiny": 1e-3,
    "mobilevit": 2e-3,
    "resnet18": 2e-3,
    "mlp-mixer-1m": 2e-3,
    "resmlp-1m": 2e-3,
    "deit-1m": 1e-3,
    "resnet18-1m": 2e-3,
}
MODELS = ("luminanet", "gpt2", *LEARNING_RATES)
OPTIMIZERS = ("adamw", "eg")
