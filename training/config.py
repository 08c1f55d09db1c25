"""TrainConfig: every choice of a run in one place; presets.py names recipes.

    ImageConfig    a run on pictures, of an ImageLuminaNet or an ImageBaseline
    TextConfig     a run on stories, of a TextLuminaNet or a Gpt2Model

A run and its model have the settings that mean something to them, and no others. What is stored of
a run is one flat dict, the same for all (stored.py).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, Self

from luminanet.errors import ConfigError
from luminanet.topology import Kind
from training.precision import AUTO, PRECISIONS
from training.stored import STORED, STORED_EVOLUTION, completed, filled
from training.topologies import IMAGE_SEEDINGS, TEXT_SEEDINGS


class DataSet(StrEnum):
    CIFAR10 = "cifar10"
    TINYSTORIES = "tinystories"


@dataclass(frozen=True, slots=True)
class EvolutionConfig:
    """When, how and how far a network changes itself; start and stop are shares of all steps."""

    policy: str = "gradient"
    """Who ranks what to change: random, gradient or hebbian (evolution/policies.py); of a selection
    worth, random or worst (evolution/selection.py)."""
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
    cost: str = "macs"
    """What compute is counted in: macs, or latency (evolution/budget.py)."""
    fields: int = 0
    """Receptive fields of text clusters that one event adds or refines at most; with 0 they stay
    as they are."""
    buses: bool = False
    """Whether whole levels may be connected at once."""
    selected: int = 0
    """Clusters that are left of many: an event is a selection. 0: it is a climb."""

    def __post_init__(self) -> None:
        if self.cost not in ("macs", "latency"):
            raise ConfigError(f"cost {self.cost!r} is neither macs nor latency")
        if self.selected < 0:
            raise ConfigError("selected must not be negative")


OPTIMIZERS = ("adamw", "eg")
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

# ---------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True, kw_only=True)
class LuminaNet:
    """A LuminaNet: where it starts, and how it changes."""

    name: ClassVar = "luminanet"
    seeding: str
    """The topology that the run starts from (topologies.py)."""
    width: int = 128
    channel: int = 64
    dropout: float = 0.0
    optimizer: str = "adamw"
    """adamw, or eg: exponentiated gradients for its synapses (step/exponentiated.py)."""
    evolution: EvolutionConfig | None = None

    def check(self, seedings: Iterable[str]) -> None:
        if self.seeding not in seedings:
            raise ConfigError(f"seeding {self.seeding!r} is none of {sorted(seedings)}")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer {self.optimizer!r} is none of {list(OPTIMIZERS)}")

    @property
    def counts_latency(self) -> bool:
        return self.evolution is not None and self.evolution.cost == "latency"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLuminaNet(LuminaNet):
    whiten: float = 0.0
    """Variance below which directions of a patch are not brought to 1 (whitening.py); 0: none."""

    def __post_init__(self) -> None:
        self.check(IMAGE_SEEDINGS)
        if self.whiten < 0:
            raise ConfigError("whiten must not be negative")
        if self.whiten and self.optimizer == "eg":
            raise ConfigError("eg keeps the signs of plain weights: add --whiten 0")
        if self.counts_latency:
            raise ConfigError("latency is predicted for text only: use the cost macs")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLuminaNet(LuminaNet):
    habit_dropout: float = 0.0
    """Share of a batch's tokens that do without what the network knows by heart."""
    shared_gates: bool = False
    """One gate per source for all clusters of a level that hear the same: they hear one sum."""

    def __post_init__(self) -> None:
        self.check(TEXT_SEEDINGS)
        if not 0 <= self.habit_dropout <= 1:
            raise ConfigError(f"habit dropout {self.habit_dropout} is not between 0 and 1")
        if self.counts_latency and not self.shared_gates:
            raise ConfigError("latency is predicted for shared gates: use them, or the cost macs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpt2Model:
    name: ClassVar = "gpt2"
    width: int = 128
    layers: int = 1
    head_width: int = 32
    """It has width / head_width heads."""
    deviation: float = 0.02
    """Of the first weights: the paper's; 0 for one that fits the width (baselines/gpt2.py)."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.layers < 1 or self.head_width < 1 or self.deviation < 0:
            raise ConfigError(
                "layers, and the width of heads, are 1 at least, and a deviation is not negative"
            )


@dataclass(frozen=True, slots=True)
class ImageBaseline:
    """A network of training.baselines.registry, in the sizes of its paper."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in LEARNING_RATES:
            raise ConfigError(f"model {self.name!r} is none of {sorted(LEARNING_RATES)}")


Model = ImageLuminaNet | TextLuminaNet | Gpt2Model | ImageBaseline


# ---------------------------------------------------------------------- runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What all runs have. `batch` counts images, or sequences of `context` tokens."""

    data_set: ClassVar[DataSet]
    preset: str
    model: Model
    steps: int
    batch: int
    learning_rate: float
    seed: int = 0
    weight_decay: float = 0.05
    beta2: float = 0.99
    warmup: float = 0.05
    """Share of the run in which the learning rate rises."""
    final_rate: float = 0.0
    """Share of the peak at which the cosine of the learning rate ends."""
    clip: float = 0.0
    """Largest gradient norm; 0 for no limit."""
    teacher: str = ""
    """Checkpoint of a baseline (of text: a GPT-2) whose answers are learned beside the labels
    (step/distillation.py)."""
    distill: float = 0.6
    """The teacher's share in the targets; its labels have the rest."""
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
        if not 0 <= self.distill <= 1:
            raise ConfigError(f"a share of {self.distill} for the teacher is not between 0 and 1")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision {self.precision!r} is none of {list(PRECISIONS)}")

    @property
    def evolution(self) -> EvolutionConfig | None:
        return self.model.evolution if isinstance(self.model, LuminaNet) else None

    def done(self, step: int, elapsed_s: float) -> float:
        """The share of the run that lies behind, by steps or by time, whichever is further."""
        by_time = elapsed_s / self.seconds if self.seconds else 0.0
        return max(step / self.steps, by_time)

    def having(self, **changes: Any) -> Self:
        """With other settings, of the run or of its model, by their names. Raises ConfigError for
        one that neither of them has."""
        theirs = {name: changes.pop(name) for name in names(self.model) & changes.keys()}
        if odd := sorted(changes.keys() - names(self)):
            owners = " or ".join(said for kind, said in OWNERS.items() if odd[0] in names(kind))
            option = odd[0].replace("_", "-")
            raise ConfigError(f"{self.preset} has no {option}: --{option} is for {owners}")
        return replace(self, model=replace(self.model, **theirs), **changes)

    def differing(self, saved: Mapping[str, Any]) -> list[str]:
        """Names of the settings of this run that a saved `to_dict` has otherwise. The precision
        `auto` is that of any run. Raises ConfigError as `completed` does."""
        before, wanted = completed(saved), self.to_dict()
        if self.precision == AUTO:
            before["precision"] = AUTO
        idle = STORED.keys() - names(self) - names(self.model) - {"data_set"}
        compared = {*wanted, *before} - idle
        return sorted(n for n in compared if before.get(n) != wanted.get(n))

    def to_dict(self) -> dict[str, Any]:
        """As it is stored: flat, with all of STORED in its order, plain JSON types only."""
        absent = {"width": 0, "channel": 0} if isinstance(self.model, ImageBaseline) else {}
        own = asdict(self) | absent | asdict(self.model)
        own |= {"model": self.model.name, "data_set": self.data_set}
        if self.evolution:
            own["evolution"] = filled(asdict(self.evolution), STORED_EVOLUTION)
        plain: dict[str, Any] = json.loads(json.dumps(filled(own, STORED)))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig(RunConfig):
    data_set: ClassVar = DataSet.CIFAR10
    model: ImageLuminaNet | ImageBaseline
    mixup: float = 0.0
    smoothing: float = 0.0
    augment: bool = True
    """Random crops and mirrors."""
    held_out: float = 0.08
    split_seed: int | None = 0
    """Draws the images that are held out, the same for runs of all seeds. None: `seed` does, as in
    runs of earlier versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig(RunConfig):
    data_set: ClassVar = DataSet.TINYSTORIES
    model: TextLuminaNet | Gpt2Model
    context: int = 256
    vocab_size: int = 4096


TrainConfig = ImageConfig | TextConfig
OWNERS: Mapping[type[RunConfig | Model], str] = {
    ImageConfig: "images",
    TextConfig: "text",
    ImageLuminaNet: "an image LuminaNet",
    TextLuminaNet: "a text LuminaNet",
    Gpt2Model: "a gpt2",
}


def names(config: RunConfig | Model | type[RunConfig | Model]) -> set[str]:
    """What its settings are called."""
    return {f.name for f in fields(config)}
