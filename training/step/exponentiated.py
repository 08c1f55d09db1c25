"""Exponentiated gradients: a learning rule that moves the logarithm of a weight, never its sign.

    w <- w * exp(-rate * sign(w) * direction)          direction = m / (sqrt(v) + epsilon)

A gradient step multiplies where AdamW adds. Strong synapses change more than weak ones, unneeded
ones fade towards zero without crossing it, and sums of many small steps in log space tend to a
log-normal distribution; a neuron whose synapses all excite or all inhibit stays so (Dale's law).
The rule keeps the signs that are there; whether a neuron's signs agree is decided by its start.

Sources: Kivinen and Warmuth, "Exponentiated gradient versus gradient descent for linear
predictors", Information and Computation 132, 1997; Cornford et al., "Brain-like learning with
exponentiated gradients", bioRxiv 2024.10.25.620272.

What is chosen here:

- The direction is Adam's (as in the Adam variant that Cornford et al. published): raw gradients
  differ by orders of magnitude between layers, and a step in log space has no unit of its own to
  make up for it. Normalised, `rate` is the relative change of any weight in one steady step, so one
  rate serves every layer and the state has AdamW's names and shapes: evolution carries it across
  mutations unchanged (evolution/transplant.py).
- Weight decay is a constant drive towards zero in log space, the factor exp(-rate * decay).
- Synapses only (`is_synapse`): biases, norms, gates and embeddings must pass through zero, or have
  no sign that means anything; they take AdamW's step in the same optimizer.
- A weight that is exactly zero has no sign to keep, and no factor would ever move it. New neurons
  start with zero outgoing weights so that growth keeps the function, so a zero takes one additive
  step as AdamW's, which fixes its sign for good (at least FLOOR large). A zero that no gradient
  reaches stays zero.
- Nothing fades below FLOOR: in float32 it would reach zero in the end and lose its sign.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

SYNAPSES = ("see", "hear", "send", "readout")
"""The stacked weight matrices of model/network.py that learn by this rule."""
RATE = 50.0
"""Learning rate of synapses relative to AdamW's: 2e-3 becomes a change by 10 % in a steady step.
In 200 steps of the cifar10 preset (one seed, not among the benchmark's) 3, 10, 30 and 100 reached
37, 44, 48 and 49 % of the held-out images, AdamW 48 %; 300 diverged. Also the share by which their
weight decay is lowered, so that one `weight_decay` shrinks weights equally fast by both rules."""
FLOOR = 1e-7
"""Least magnitude of a weight that is not zero."""
LIMIT = 1.0
"""Largest change of a weight's logarithm in one step."""


def is_synapse(name: str) -> bool:
    """Whether the parameter of this name in network.Network learns multiplicatively."""
    return name.split("_")[0] in SYNAPSES


class ExponentiatedGradient(torch.optim.Optimizer):
    """Multiplicative steps for groups with `exponentiated=True`, AdamW's steps for the others.

    State per parameter as in torch.optim.AdamW: `step`, `exp_avg`, `exp_avg_sq`. `birth` is the
    learning rate of the additive step that gives a zero weight its sign.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        lr: float = 2e-2,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        birth: float = 2e-3,
        exponentiated: bool = True,
    ) -> None:
        if lr < 0 or weight_decay < 0 or birth <= 0:
            raise ValueError("lr and weight_decay must not be negative, birth must be positive")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {betas} are not between 0 and 1")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"birth": birth, "exponentiated": exponentiated})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            update = multiply if group["exponentiated"] else add
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, self._direction(parameter, group), group)

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Adam's bias-corrected m / (sqrt(v) + eps); moves the state on by one step."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second, step = state["exp_avg"], state["exp_avg_sq"], state["step"].item()
        beta1, beta2 = group["betas"]
        first.lerp_(parameter.grad, 1 - beta1)
        second.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
        deviation = (second / (1 - beta2**step)).sqrt_().add_(group["eps"])
        direction: Tensor = first / deviation / (1 - beta1**step)
        return direction


def add(weight: Tensor, direction: Tensor, group: dict[str, Any]) -> None:
    """AdamW's step, in place."""
    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])


def multiply(weight: Tensor, direction: Tensor, group: dict[str, Any]) -> None:
    """The step of the module's docstring, in place; all three have any one shape."""
    sign = weight.sign()
    change = (sign * direction + group["weight_decay"]).mul_(-group["lr"]).clamp_(-LIMIT, LIMIT)
    size = (weight.abs() * change.exp_()).clamp_(min=FLOOR)
    newborn = (direction.abs() * group["birth"]).clamp_(min=FLOOR) * -direction.sign()
    weight.copy_(torch.where(sign == 0, newborn, sign * size))
