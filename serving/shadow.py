"""Shadow traffic: what a client asked of LuminaNet is computed again when nobody waits, by it and
by the baseline, so that the two are compared on real requests.

A pair is fair because both sides are replays. They have the same prompt, parameters, seed, number
of tokens (those that the client got: no end of text counts) and company (so many sequences are
already running when the request joins, as ran beside the client's). They run one after the other,
in turns LuminaNet or the baseline first, in a gap in which no client's request waits or runs: two
models that compute at one moment slow each other, and a baseline replayed a minute after the
client's request would meet another machine.

Clients come first. A replay begins when all engines have been idle for QUIET_S; a client's request
that comes meanwhile ends it within one call of the network, and it is tried again in a later gap.
Replays wait in a short list and for a limited time, and no family counts them but those of here.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter
from typing import Any, NamedTuple

from luminanet.errors import LuminaNetError
from luminanet.sampling import Sampling
from serving.engines.detokenize import Transcript
from serving.engines.engine import Engine
from serving.engines.job import Finish
from serving.engines.sequences import UNLIMITED
from serving.engines.text import Generation, Piece, Replay, TextEngine
from serving.metrics.advantage import AdvantageCollector, Pair, Pairs, Times
from serving.metrics.families import Metrics
from serving.models.load import TextModel

log = logging.getLogger("luminanet.shadow")

QUIET_S = 0.05
"""Clients that send one request after the other leave gaps as well, but shorter ones."""
POLL_S = 0.01
MOST_PENDING = 16
MOST_COMPANY = 8
"""More sequences at once are a busy server, and their replay could not give way at once."""
WAIT_S = 60.0
LIMIT_S = 10.0
HEAD_START = 4
"""Calls that company may be ahead of the request it keeps company, and so needs room for."""
ALIKE = 0.1
"""How far apart the mean company of the two sides may be, as a share."""


class Outcome(StrEnum):
    PAIRED = "paired"
    SKIPPED_BUSY = "skipped_busy"
    """No gap that was long enough came in time, or too many sequences ran at once."""
    SKIPPED_OVERLOADED = "skipped_overloaded"
    """Enough requests waited to be replayed already."""
    FAILED = "failed"
    """A side could not compute it, or both did in other company."""
    TIMED_OUT = "timed_out"


class Side(NamedTuple):
    model: TextModel
    engine: TextEngine


@dataclass(frozen=True, slots=True)
class Asked:
    """What both sides compute: a text of `tokens` tokens among `company` sequences."""

    prompt: str
    sampling: Sampling
    tokens: int
    company: int


class Pending(NamedTuple):
    job: Generation
    until_s: float


class ClientFirstError(Exception):
    """A client's request came: the replay was given up."""


class FailedError(Exception):
    """A replay that says nothing."""


class Shadow:
    """Lives on the event loop. `idle` tells whether all engines are."""

    def __init__(
        self,
        ours: Side,
        theirs: Side,
        share: float,
        idle: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        self._sides = (ours, theirs)
        self._share, self._idle = share, idle
        self._chance = random.Random(0)
        self._pending: deque[Pending] = deque()
        self._offered = asyncio.Event()
        self._jobs: list[Replay] = []
        self._idle_since_s: float | None = None
        self._gave_way = self._baseline_first = False
        self._task: asyncio.Task[None] | None = None
        self.pairs = Pairs()
        metrics.registry.register(AdvantageCollector(self.pairs))
        self._counts = {outcome: metrics.shadow.labels(outcome.value) for outcome in Outcome}

    def follow(self, ours: Side, theirs: Side) -> None:
        """Compares these from now on; to be called while stopped. What was found of other networks
        is forgotten."""
        before, self._sides = self._sides, (ours, theirs)
        self._pending.clear()
        if [s.model.fingerprint for s in before] != [s.model.fingerprint for s in self._sides]:
            self.pairs.clear()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="shadow")

    async def stop(self) -> None:
        """Ends what runs, and takes nothing more."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    # ------------------------------------------------------------------ called for clients

    def give_way(self) -> None:
        """A client's request comes, of any kind."""
        self._idle_since_s = None
        self._gave_way = True
        self._cancel()

    def offer(self, job: Generation, engine: Engine[Any]) -> None:
        """A client's text that an engine has just accepted: one of LuminaNet is replayed after its
        end, or not, as the share says. One for opened rows never is: they are no measure of a
        pace."""
        if engine is not self._sides[0].engine or self._task is None or job.opened:
            return
        if self._chance.random() >= self._share:
            return
        if len(self._pending) >= MOST_PENDING:
            self._counts[Outcome.SKIPPED_OVERLOADED].inc()
            return
        self._pending.append(Pending(job, perf_counter() + WAIT_S))
        self._offered.set()

    # ------------------------------------------------------------------ the task

    async def _run(self) -> None:
        while True:
            if not self._pending:
                self._offered.clear()
                await self._offered.wait()
            elif perf_counter() > self._pending[0].until_s:
                self._pending.popleft()
                self._counts[Outcome.SKIPPED_BUSY].inc()
            elif self._quiet():
                await self._replay_first()
            else:
                await asyncio.sleep(POLL_S)

    def _quiet(self) -> bool:
        """Whether nothing has been computed for QUIET_S; asked every POLL_S."""
        now_s = perf_counter()
        if not self._idle():
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        return self._idle_since_s is not None and now_s - self._idle_since_s >= QUIET_S

    async def _replay_first(self) -> None:
        """Takes the first of the list; puts it back when a client comes."""
        pending = self._pending.popleft()
        job = pending.job
        if job.ended not in (Finish.STOP, Finish.LENGTH):
            return
        try:
            if job.company > MOST_COMPANY:
                outcome = Outcome.SKIPPED_BUSY
            elif asked := self._asked(job):
                async with asyncio.timeout(LIMIT_S):
                    self.pairs.add(await self._pair(asked))
                outcome = Outcome.PAIRED
            else:
                return
        except ClientFirstError:
            self._pending.appendleft(pending)
            return
        except TimeoutError:
            outcome = Outcome.TIMED_OUT
        except (FailedError, LuminaNetError) as error:
            log.debug("a request was not paired: %s", error)
            outcome = Outcome.FAILED
        except Exception:
            log.exception("a request could not be computed again")
            outcome = Outcome.FAILED
        finally:
            self._cancel()
        self._counts[outcome].inc()

    def _asked(self, job: Generation) -> Asked | None:
        """None for a request that one call answers: it has no pace.
        Raises RequestError when its prompt is too long for the baseline."""
        prompt, company = self._sides[0].model.tokenizer.decode(job.prompt), round(job.company)
        tokens = job.tokens
        for model, engine in self._sides:
            ahead = HEAD_START * model.how.steps if company > 1 else 0
            tokens = min(tokens, engine.room(len(model.encode(prompt))) - ahead)
        steps = max(model.how.steps for model, _ in self._sides)
        return Asked(prompt, job.sampling, tokens, company) if tokens > steps else None

    async def _pair(self, asked: Asked) -> Pair:
        self._gave_way = False
        ours, theirs = self._sides
        self._baseline_first = not self._baseline_first
        found = {}
        for side in (theirs, ours) if self._baseline_first else (ours, theirs):
            found[side.engine.name] = await self._replay(side, asked)
        (mine, among), (other, beside) = (found[side.engine.name] for side in self._sides)
        if abs(among - beside) > ALIKE * max(among, beside):
            raise FailedError(f"{among:.1f} sequences on one side, {beside:.1f} on the other")
        return Pair(mine, other)

    async def _replay(self, side: Side, asked: Asked) -> tuple[Times, float]:
        """Times of one side, and in what company they were."""
        company = [self._submit(side, asked, UNLIMITED, k) for k in range(1, asked.company)]
        for other in company:
            await self._take(other)
        job = self._submit(side, asked, asked.tokens, 0)
        while (await self._take(job))[-1].finish is None:
            pass
        self._cancel()
        while not side.engine.idle:
            await asyncio.sleep(POLL_S / 10)
        if self._gave_way:
            raise ClientFirstError
        return _times(job), job.company

    def _submit(self, side: Side, asked: Asked, tokens: int, number: int) -> Replay:
        if self._gave_way:
            raise ClientFirstError
        seed = (asked.sampling.seed + number) % 2**63
        job = Replay(
            side.model.encode(asked.prompt),
            Transcript(side.model.tokenizer.stream(), ()),
            replace(asked.sampling, seed=seed),
            tokens,
            perf_counter(),
        )
        self._jobs.append(job)
        side.engine.submit(job)
        return job

    async def _take(self, job: Replay) -> list[Piece]:
        pieces: list[Piece] = await job.outbox.take()
        finish = pieces[-1].finish
        if finish is Finish.CANCELLED:
            raise ClientFirstError
        if finish not in (None, Finish.STOP, Finish.LENGTH):
            raise FailedError(f"a replay ended with {finish}")
        return pieces

    def _cancel(self) -> None:
        for job in self._jobs:
            job.cancel()
        self._jobs.clear()


def _times(job: Replay) -> Times:
    return Times(
        time_to_first_token=job.first_s - job.submitted_s,
        time_per_output_token=(job.last_s - job.first_s) / (job.tokens - 1),
        request_duration=job.last_s - job.submitted_s,
    )
