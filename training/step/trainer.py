"""One training step and its state: model, optimizer, and the moving average of the weights.

The same for every model; evolution replaces the model between steps (evolution/evolve.py). Running
statistics of batch normalisation belong to the live weights and are saved with them; for the
averaged weights they are measured anew on training batches whenever those are used, as for
averaged weights in SWA (Izmailov et al., 2018, arXiv 1803.05407, section 3.2).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.errors import CheckpointError
from training.baselines.gpt2 import Gpt2
from training.baselines.registry import Baseline
from training.config import ImageConfig, LuminaNet, TextConfig, TrainConfig
from training.data.batches import Batch, Source
from training.model.network import Network
from training.model.output_layer import Output, cross_entropy
from training.precision import dtype_of, products
from training.step.distributed import World
from training.step.exponentiated import RATE, ExponentiatedGradient, is_synapse

Model = Network | Gpt2 | Baseline


def is_text(model: Model) -> TypeGuard[Network | Gpt2]:
    return isinstance(model, Gpt2) or (isinstance(model, Network) and model.is_text)


MIN_RATE = 0.005
EMA = 0.998
"""Share of the average of the weights that a step leaves as it was."""
GATE_RATE = 5.0
"""Learning rate of the gates relative to the other weights."""
UNDECAYED = ("bias", "position", "class_token")
"""Starts of the last part of a parameter's name, whatever its shape; vectors never decay."""
SETTLING_BATCHES = 4
"""Training batches on which batch normalisation is measured for the averaged weights."""


@dataclass(frozen=True, slots=True)
class Score:
    """Held-out loss (nats per example or token) and top-1 accuracy."""

    loss: float
    accuracy: float

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 50.0))


class Trainer:
    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        device: torch.device,
        world: World = World(),  # noqa: B008 - immutable
        teacher: Gpt2 | None = None,
    ) -> None:
        self.config, self.device, self.world = config, device, world
        self.dtype = dtype_of(device, config.precision)
        """Of products."""
        self.teacher = teacher.to(device).eval() if teacher else None
        """Of text; the answers of an image's teacher come with the batches."""
        self.step = 0
        self.seconds = 0.0
        """Time spent on training so far; the loop adds to it."""
        self.use(model)

    def use(self, model: Model) -> None:
        """Trains `model` from here on, with fresh moments and its own weights as the average."""
        self.model = model.to(self.device)
        self.plain: Callable[..., Any] = model.features if is_text(model) else model
        """Inputs -> logits, or of text what comes before the output layer (output_layer.py)."""
        self.run = self.plain
        """The same, or what `compile` made of it."""
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizer = self._optimizer()
        for name, _ in self.model.named_parameters():
            self.set_moments(name, *(torch.zeros_like(self.average[name]) for _ in range(2)))

    def compile(self) -> None:
        """From here on the model runs compiled; worth it once it keeps its shape."""
        if self.run is self.plain:
            self.run = torch.compile(self.plain)

    @property
    def exponentiated(self) -> bool:
        """Whether synapses learn by exponentiated gradients."""
        model = self.config.model
        return isinstance(model, LuminaNet) and model.optimizer == "eg"

    def _optimizer(self) -> torch.optim.Optimizer:
        rate, betas = self.config.learning_rate, (0.9, self.config.beta2)
        if self.exponentiated:
            return ExponentiatedGradient(self._groups(), lr=rate, betas=betas, birth=rate)
        return torch.optim.AdamW(self._groups(), lr=rate, betas=betas, fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        """Weight decay for matrices and filters only; gates learn faster."""
        matrices, vectors, gates, synapses = [], [], [], list[nn.Parameter]()
        for name, parameter in self.model.named_parameters():
            if name == "gates":
                gates.append(parameter)
            elif self.exponentiated and is_synapse(name):
                synapses.append(parameter)
            elif parameter.dim() < 2 or name.rpartition(".")[2].startswith(UNDECAYED):
                vectors.append(parameter)
            else:
                matrices.append(parameter)
        decay = self.config.weight_decay
        groups = [
            (matrices, decay, 1.0),
            (vectors, 0.0, 1.0),
            (gates, 0.0, GATE_RATE),
            (synapses, decay / RATE, RATE),
        ]
        return [
            {"params": ps, "weight_decay": decay, "rate": rate, "exponentiated": ps is synapses}
            for ps, decay, rate in groups
            if ps
        ]

    def moments(self, name: str) -> tuple[Tensor, Tensor]:
        state = self.optimizer.state[self.model.get_parameter(name)]
        return state["exp_avg"], state["exp_avg_sq"]

    def set_moments(self, name: str, first: Tensor, second: Tensor) -> None:
        self.optimizer.state[self.model.get_parameter(name)] = {
            "step": torch.tensor(float(self.step), device=self.device),
            "exp_avg": first.to(self.device),
            "exp_avg_sq": second.to(self.device),
        }

    # ------------------------------------------------------------------ training

    @property
    def done(self) -> float:
        """The share of the run that lies behind."""
        return self.config.done(self.step, self.seconds)

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to the final rate, MIN_RATE of the peak at least."""
        done = min(self.done, 1.0)
        if done < self.config.warmup:
            return self.config.learning_rate * (done / self.config.warmup)
        cosine = 0.5 * (
            1 + math.cos(math.pi * (done - self.config.warmup) / (1 - self.config.warmup))
        )
        final = self.config.final_rate
        return self.config.learning_rate * max(final + (1 - final) * cosine, MIN_RATE)

    def train(self, batch: Batch) -> float:
        """One step; returns the loss before it."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.model.train()
        smoothing = self.config.smoothing if isinstance(self.config, ImageConfig) else 0.0
        loss = self.loss(batch, smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        self.world.average_gradients(self.model)
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.step += 1
        self._average()
        return loss.item()

    def loss(self, batch: Batch, smoothing: float = 0.0, probe: Tensor | None = None) -> Tensor:
        targets = batch.targets.to(self.device)
        if not targets.is_floating_point():
            targets = targets.flatten()
        if isinstance(self.config, TextConfig):
            taught = self._taught(batch) if self.teacher else None
            output, share = self._output(batch, probe), self.config.distill
            return cross_entropy(output, targets, taught, share, self.dtype)
        return F.cross_entropy(self.logits(batch, probe), targets, label_smoothing=smoothing)

    def logits(self, batch: Batch, probe: Tensor | None = None) -> Tensor:
        """Float32 logits [examples or tokens, classes]."""
        if isinstance(self.config, TextConfig):
            features_NE, vocabulary_VE = self._output(batch, probe)
            with self._products():
                return F.linear(features_NE, vocabulary_VE).float()
        return self._run(batch, probe)

    def _run(self, batch: Batch, probe: Tensor | None) -> Tensor:
        """What the model gives, float32 [examples or tokens, ...]."""
        inputs = batch.inputs.to(self.device)
        with self._products():
            out: Tensor = self.run(inputs) if probe is None else self.plain(inputs, probe)
        return out.float().flatten(0, -2)

    def _products(self) -> torch.autocast:
        return products(self.device, self.dtype)

    def _output(self, batch: Batch, probe: Tensor | None) -> Output:
        assert is_text(self.model)
        return Output(self._run(batch, probe), self.model.vocabulary)

    def _taught(self, batch: Batch) -> Output:
        """The teacher's answers to the same tokens."""
        assert self.teacher is not None
        with torch.no_grad(), self._products():
            features: Tensor = self.teacher.features(batch.inputs.to(self.device))
        return Output(features.flatten(0, -2), self.teacher.vocabulary)

    def _average(self) -> None:
        decay = min(EMA, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                [self.average[name] for name, _ in self.model.named_parameters()],
                [parameter.detach() for parameter in self.model.parameters()],
                1 - decay,
            )

    # ------------------------------------------------------------------ evaluation

    @contextmanager
    def averaged(self, source: Source) -> Iterator[None]:
        """Within it, the model has the averaged weights, and batch statistics that fit them."""
        live = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        statistics = {name: b.clone() for name, b in self._statistics().items()}
        self._copy(self.average)
        try:
            self._settle(source)
            yield
        finally:
            self._copy(live)
            self._copy_statistics(statistics)

    def _settle(self, source: Source) -> None:
        """Batch statistics as the plain mean over the run's first batches."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        if not norms:
            return
        momentum = norms[0].momentum
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.model.train()
        with torch.no_grad():
            for step in range(SETTLING_BATCHES):
                self.logits(source.batch(step))
        for norm in norms:
            norm.momentum = momentum

    def _statistics(self) -> dict[str, Tensor]:
        """The buffers that training changes."""
        return {
            f"{name}.{kind}": buffer
            for name, module in self.model.named_modules()
            if isinstance(module, nn.BatchNorm2d)
            for kind, buffer in module.named_buffers()
        }

    def _copy(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(values[name])

    def _copy_statistics(self, values: Mapping[str, Tensor]) -> None:
        for name, buffer in self._statistics().items():
            buffer.copy_(values[name])

    def score(self, batches: list[Batch]) -> Score:
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        with torch.no_grad():
            for batch in batches:
                logits, targets = self.logits(batch), batch.targets.to(self.device).flatten()
                loss += F.cross_entropy(logits, targets, reduction="sum").item()
                right += int((logits.argmax(-1) == targets).sum())
                count += len(targets)
        return Score(loss / count, right / count)

    # ------------------------------------------------------------------ state

    @property
    def is_finite(self) -> bool:
        """Whether all weights, and their average, are numbers."""
        tensors = [*self.model.parameters(), *self.average.values()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def state(self) -> dict[str, Any]:
        """Everything `restore` needs, apart from the model's shape."""
        names = [name for name, _ in self.model.named_parameters()]
        return {
            "step": self.step,
            "weights": {n: self.model.get_parameter(n).detach().cpu() for n in names},
            "statistics": {n: b.cpu() for n, b in self._statistics().items()},
            "average": {n: self.average[n].cpu() for n in names},
            "first_moment": {n: self.moments(n)[0].cpu() for n in names},
            "second_moment": {n: self.moments(n)[1].cpu() for n in names},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        if set(state["weights"]) != set(self.average):
            raise CheckpointError("the saved run belongs to another network: use another --out")
        self._copy(state["weights"])
        self._copy_statistics(state["statistics"])
        for name in self.average:
            self.average[name] = state["average"][name].to(self.device)
            self.set_moments(name, state["first_moment"][name], state["second_moment"][name])
