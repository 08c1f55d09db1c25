"""One run: its steps in order, each request at its time, and what came of them.

A run that sent late, or had nobody to send, is refused: it has no report.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gevent

from loadtest.plan import BURSTS, Arrival, Step, arrivals, burst
from loadtest.pool import Job, Pool, RefusedError
from loadtest.samples import Recording, Sample
from loadtest.stall import Stall

POLL_S = 0.005
WARM_UP = -1
"""The step of requests that are not counted."""


@dataclass
class Run:
    """`max_lag_s`: how late a request may be sent; `drain_s`: how long a step may take to end after
    its last arrival; `give_up_s`: a median latency after which the same shapes are not offered at
    this rate or a higher one again. Without steps a run is a closed loop: it records what it is
    told, and is over after `requests`. `stall` begins with the first request that counts."""

    steps: Sequence[Step]
    seed: int
    max_lag_s: float
    drain_s: float
    give_up_s: float = math.inf
    requests: float = math.inf
    stall: Stall | None = None
    clock: Callable[[], float] = time.monotonic
    pool: Pool = field(default_factory=Pool)
    refused: str = ""
    samples: list[Sample] = field(default_factory=list)
    done: list[Step] = field(default_factory=list)
    spans_s: list[tuple[float, float]] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    @property
    def over(self) -> bool:
        """Whether a closed loop has what it needs."""
        return not self.steps and len(self.samples) >= self.requests

    def begin(self) -> None:
        """From here on requests count."""
        if self.stall:
            self.stall.begin()

    def record(self, sample: Sample) -> None:
        """Called by users. A request that was sent late refuses the run."""
        if sample.step == WARM_UP:
            if sample.error:
                self.refused = self.refused or f"{sample.shape} failed in warm-up: {sample.error}"
            return
        if sample.lag_s > self.max_lag_s:
            self.refused = self.refused or self._late(sample.lag_s)
        self.samples.append(sample)

    def drive(self, users: int) -> None:
        """Sends all; ends with `refused` set, or with every step done by `users` users."""
        try:
            self._wait_for(users, self.drain_s)
            for shape in dict.fromkeys(name for step in self.steps for name in step.shapes):
                for size in BURSTS:
                    self._send(WARM_UP, burst(shape, min(size, users)), users, float("inf"))
            self.begin()
            given_up: dict[tuple[str, ...], float] = {}
            for step in self.steps:
                if step.rate >= given_up.get(step.shapes, math.inf):
                    continue
                begin_s = self.clock()
                self._send(len(self.done), arrivals(step, self.seed), users, self.max_lag_s)
                if self._median_s(len(self.done)) > self.give_up_s:
                    given_up[step.shapes] = step.rate
                self.spans_s.append((begin_s, self.clock()))
                self.done.append(step)
            self.ended = True
        except RefusedError as why:
            self.refused = self.refused or str(why)

    def recording(self) -> Recording:
        """Raises RefusedError when there is nothing to report."""
        if self.refused:
            raise RefusedError(self.refused)
        if self.steps and not self.ended:
            raise RefusedError(f"the run was stopped after {len(self.done)} steps")
        return Recording(self.seed, self.done, self.spans_s, self.samples)

    def _send(self, number: int, due: Sequence[Arrival], users: int, max_lag_s: float) -> None:
        start_s = self.clock()
        for arrival in due:
            intended_s = start_s + arrival.at_s
            gevent.sleep(max(0.0, intended_s - self.clock()))
            lag_s = self.clock() - intended_s
            if lag_s > max_lag_s:
                raise RefusedError(self._late(lag_s))
            self.pool.give(Job(number, arrival, intended_s))
            if self.refused:
                raise RefusedError(self.refused)
        self._wait_for(users, self.drain_s)
        if self.refused:
            raise RefusedError(self.refused)

    def _wait_for(self, users: int, seconds: float) -> None:
        end_s = self.clock() + seconds
        while self.pool.idle < users:
            if self.clock() > end_s:
                raise RefusedError(
                    f"{users - self.pool.idle} of {users} users are not done {seconds:g} s after "
                    "the last arrival: give them longer (--drain)"
                )
            gevent.sleep(POLL_S)

    def _median_s(self, step: int) -> float:
        return statistics.median(s.latency_s for s in self.samples if s.step == step)

    def _late(self, lag_s: float) -> str:
        return (
            f"the schedule lags: a request was sent {lag_s:.3f} s late, and {self.max_lag_s:g} s "
            "are allowed (--max-lag): the client is the limit; offer less (--rates)"
        )
