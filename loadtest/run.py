"""One run: its steps in order, each request at its time, and what came of them.

A run that sent late, or had nobody to send, is refused: it has no report.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gevent

from loadtest.plan import BURSTS, Arrival, Step, arrivals, burst
from loadtest.pool import Job, Pool, RefusedError
from loadtest.samples import Recording, Sample

POLL_S = 0.005
WARM_UP = -1
"""The step of requests that are not counted."""


@dataclass
class Run:
    """`max_lag_s`: how late a request may be sent; `drain_s`: how long a step may take to end after
    its last arrival. Without steps a run is a closed loop, and records what it is told."""

    steps: Sequence[Step]
    seed: int
    max_lag_s: float
    drain_s: float
    clock: Callable[[], float] = time.monotonic
    pool: Pool = field(default_factory=Pool)
    refused: str = ""
    samples: list[Sample] = field(default_factory=list)
    spans_s: list[tuple[float, float]] = field(default_factory=list)
    step: str = ""

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

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
            for number, step in enumerate(self.steps):
                begin_s = self.clock()
                self.step = f"{number + 1} of {len(self.steps)}: {step.rate:g}/s {step.shapes}"
                self._send(number, arrivals(step, self.seed), users, self.max_lag_s)
                self.spans_s.append((begin_s, self.clock()))
        except RefusedError as why:
            self.refused = self.refused or str(why)

    def recording(self) -> Recording:
        """Raises RefusedError when there is nothing to report."""
        if self.refused:
            raise RefusedError(self.refused)
        if len(self.spans_s) < len(self.steps):
            done, all_ = len(self.spans_s), len(self.steps)
            raise RefusedError(f"the run was stopped after {done} of {all_} steps")
        return Recording(self.seed, self.steps, self.spans_s, self.samples)

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

    def _late(self, lag_s: float) -> str:
        return (
            f"the schedule lags: a request was sent {lag_s:.3f} s late, and {self.max_lag_s:g} s "
            "are allowed (--max-lag): the client is the limit; offer less (--rates)"
        )
