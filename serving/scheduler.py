"""Text: continuous batching. Requests join and leave between two steps of the network.

A step of the engine:  cancelled rows leave -> waiting requests join (up to max_batch rows) ->
the network runs once over all rows -> every row chooses a token -> finished rows leave.

Same seed, same text: a row's token depends on its own logits and its own generator only.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from serving.decoding import Sequences
from serving.engine import Engine, Finish, Job
from serving.metrics import TextMetrics
from serving.sampling import Logits, Sampling, choose
from serving.transcript import Transcript

log = logging.getLogger("luminanet.engine")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that became certain in one step; `finish` is set on the last piece of a request."""

    text: str
    finish: Finish | None = None


class Generation(Job):
    """One request for text, and how far it has come."""

    def __init__(
        self,
        prompt: Sequence[int],
        transcript: Transcript,
        sampling: Sampling,
        seed: int,
        max_tokens: int,
        arrived_s: float,
    ) -> None:
        super().__init__(arrived_s)
        self.prompt = prompt
        self.transcript = transcript
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.draw = np.random.default_rng(seed).random
        self.tokens = 0
        self.first_s = self.last_s = 0.0
        self.spoke = False


class TextEngine(Engine[Generation]):
    """Runs the generations of one model. Row i of the sequences belongs to `_running[i]`."""

    def __init__(
        self,
        name: str,
        sequences: Sequences,
        end_id: int,
        max_batch: int,
        queue_limit: int,
        metrics: TextMetrics,
    ) -> None:
        super().__init__(name, queue_limit, metrics)
        self._sequences = sequences
        self._end_id = end_id
        self._max_batch = max_batch
        self._text_metrics = metrics
        self._prefill = metrics.inference("prefill")
        self._decode = metrics.inference("decode")

    def _step(self) -> None:
        gone = [row for row, job in enumerate(self._running) if job.cancelled]
        self._leave([(row, Finish.CANCELLED) for row in gone])
        while len(self._running) < self._max_batch and (job := self._next()) is not None:
            self._join(job)
        if self._running:
            self._advance()

    def _join(self, job: Generation) -> None:
        row = len(self._running)
        begun_s = perf_counter()
        try:
            logits_V = self._sequences.join(row, job.prompt)
        except Exception:
            log.exception("%s: a prompt could not be computed; the request is ended", self.name)
            self._end(job, Finish.ERROR)
            return
        self._running.append(job)
        self._text_metrics.prompt_tokens.inc(len(job.prompt))
        if logits_V is not None:
            self._prefill.observe(perf_counter() - begun_s)
            self._accept([row], logits_V[None])
            self._hand_over()

    def _advance(self) -> None:
        rows = len(self._running)
        begun_s = perf_counter()
        logits_BV = self._sequences.step(rows)
        self._decode.observe(perf_counter() - begun_s)
        self._text_metrics.batch_size.observe(rows)
        self._accept(range(rows), logits_BV)

    def _accept(self, rows: Sequence[int], logits_BV: Logits) -> None:
        """Chooses a token for each of `rows`, posts its text, and lets finished rows leave."""
        jobs = [self._running[row] for row in rows]
        taken = [self._take(row, logits_V) for row, logits_V in zip(rows, logits_BV, strict=True)]
        now_s = perf_counter()
        self._text_metrics.generation_tokens.inc(sum(f is not Finish.ERROR for _, f in taken))
        for job, (text, finish) in zip(jobs, taken, strict=True):
            if finish is not Finish.ERROR:
                self._time_token(job, now_s)
                self._speak(job, text, now_s)
        self._leave([(row, f) for row, (_, f) in zip(rows, taken, strict=True) if f is not None])

    def _take(self, row: int, logits_V: Logits) -> tuple[str, Finish | None]:
        """Chooses the row's token: the text it completes, and why the row ends, if it does.

        A failure here concerns this row alone, and so ends no other.
        """
        job = self._running[row]
        try:
            token = choose(logits_V, job.sampling, job.draw())
            if token == self._end_id:
                job.tokens += 1
                return "", Finish.STOP
            text, stopped = job.transcript.push(token)
        except Exception:
            log.exception("%s: no token could be chosen; the request is ended", self.name)
            return "", Finish.ERROR
        job.tokens += 1
        if stopped:
            return text, Finish.STOP
        if job.tokens == job.max_tokens or self._sequences.is_full(row):
            return text, Finish.LENGTH
        self._sequences.append(row, token)
        return text, None

    def _time_token(self, job: Generation, now_s: float) -> None:
        if job.tokens == 1:
            job.first_s = now_s
        else:
            self._text_metrics.inter_token.observe(now_s - job.last_s)
        job.last_s = now_s

    def _speak(self, job: Generation, text: str, now_s: float) -> None:
        if text:
            if not job.spoke:
                job.spoke = True
                self._text_metrics.first_token.observe(now_s - job.arrived_s)
            self._post(job, Piece(text))

    def _leave(self, ended: list[tuple[int, Finish]]) -> None:
        """Lets rows (rising) go and moves the last row into each gap, so that rows stay compact."""
        for row, reason in reversed(ended):
            job, last = self._running[row], self._running.pop()
            if last is not job:
                self._running[row] = last
                self._sequences.move(len(self._running), row)
            self._end(job, reason)

    def _end(self, job: Generation, reason: Finish) -> None:
        if reason in (Finish.STOP, Finish.LENGTH):
            self._speak(job, job.transcript.flush(), job.last_s)
            if job.tokens > 1:
                tpot_s = (job.last_s - job.first_s) / (job.tokens - 1)
                self._text_metrics.per_output_token.observe(tpot_s)
        self._metrics.finished(reason).inc()
        self._post(job, Piece("", reason))
