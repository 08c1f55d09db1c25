"""When requests are to be sent: steps of Poisson arrivals, drawn with a seed before a run starts.

An open loop: the times do not depend on the answers, so a server that stalls is sent what it would
be sent by independent users, and what waits is counted.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

BURSTS = (1, 8, 32)
"""Requests at once with which every shape is warmed up."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time at one offered rate.

    `shapes` are names of workload.SHAPES, `rate` requests per second of all of them together.
    `shapes` of equal number, at an equal rate and repeat, arrive at equal times.
    """

    shapes: tuple[str, ...]
    rate: float
    seconds: float
    repeat: int = 0

    def __post_init__(self) -> None:
        if not self.shapes or self.rate <= 0 or self.seconds <= 0:
            raise ValueError("a step needs shapes, a rate and a duration above 0")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is to be sent `at_s` seconds after its step begins; `draw` seeds its body."""

    at_s: float
    shape: str
    draw: int


def sweep(
    models: Sequence[Sequence[str]], rates: Sequence[float], seconds: float, repeats: int
) -> list[Step]:
    """A step for each of `models` (the shapes of one), rate and repeat. Models take turns in going
    first, so that slow moments of a machine meet them all."""
    steps = []
    for repeat in range(repeats):
        for number, rate in enumerate(rates):
            order = list(models) if (repeat + number) % 2 == 0 else list(reversed(models))
            steps += [Step(tuple(shapes), rate, seconds, repeat) for shapes in order]
    return steps


def arrivals(step: Step, seed: int) -> list[Arrival]:
    """The Poisson arrivals of a step, in order; at least one."""
    draw = random.Random(f"{seed}/{step.rate}/{step.seconds}/{step.repeat}")
    found: list[Arrival] = []
    at_s = draw.expovariate(step.rate)
    while at_s < step.seconds or not found:
        found.append(Arrival(at_s, draw.choice(step.shapes), draw.getrandbits(32)))
        at_s += draw.expovariate(step.rate)
    return found


def burst(shape: str, size: int) -> list[Arrival]:
    """Requests that are to be sent at once."""
    return [Arrival(0.0, shape, number) for number in range(size)]
