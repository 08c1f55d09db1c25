"""Text: continuous batching. Requests join and leave between two calls of the network.

A step of the engine:  cancelled rows leave -> waiting requests join (up to max_batch rows, and
PROMPT_TOKENS of prompts that are computed) -> one call draws K tokens for every row -> finished
rows leave, and what they drew too much is lost.

The first token comes first: a call draws as few tokens as it can while a row waits for its first.

Same seed, same text: a row's tokens depend on its own text, its own parameters and how many tokens
it has drawn before; neither on K nor on its neighbours.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling
from serving.engines.detokenize import Transcript
from serving.engines.engine import Engine, Finish, Job
from serving.engines.sequences import Drawn, Sequences
from serving.metrics.families import TextMetrics

log = logging.getLogger("luminanet.engine")

PROMPT_TOKENS = 256
"""Of prompts that are computed between two calls; the last of them may go beyond. So running texts
wait for a prompt or two, not for all that came at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that became certain in one step, and the tokens drawn in it with their
    log-probabilities; `finish` is set on the last piece of a request."""

    text: str
    finish: Finish | None = None
    logs: Sequence[float] = ()
    ids: Sequence[int] = ()


class Generation(Job):
    """One request for text, and how far it has come."""

    def __init__(
        self,
        prompt: Sequence[int],
        transcript: Transcript,
        sampling: Sampling,
        max_tokens: int,
        arrived_s: float,
        request_id: str = "",
    ) -> None:
        super().__init__(arrived_s, request_id)
        self.prompt = prompt
        self.transcript = transcript
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.tokens = 0
        self.first_s = self.last_s = 0.0
        self.spoke = False
        self.calls = self.rows = 0
        """Calls that drew for it, and the rows of all of them together."""
        self.ended: Finish | None = None

    @property
    def company(self) -> float:
        """How many sequences were computed together, itself included, on average over its calls."""
        return self.rows / self.calls if self.calls else 0.0


class Replay(Generation):
    """A request that no client waits for: of a given length whatever it says, and counted nowhere
    but by who asked for it (shadow.py)."""

    replay = True


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
        super().__init__(name, max_batch, queue_limit, metrics)
        self._sequences = sequences
        self._end_id = end_id
        self._text_metrics = metrics
        self._uncounted = metrics.apart()

    def room(self, prompt: int) -> int:
        """How many tokens can follow a prompt of so many."""
        return self._sequences.room(prompt)

    def _step(self) -> None:
        self._leave([(row, job.leaving) for row, job in enumerate(self._running) if job.leaving])
        computed = 0
        while computed < PROMPT_TOKENS and (job := self._next()) is not None:
            if job.leaving:  # since then: prompts that were computed before it take their time
                self._end(self._running.pop(), job.leaving)
            else:
                computed += self._join(job)
        if self._running:
            self._advance()

    def _join(self, job: Generation) -> int:
        """Starts the last of `_running`. Returns how many tokens were computed for that."""
        begun_s = perf_counter()
        try:
            computed = self._sequences.join(len(self._running) - 1, job.prompt, job.sampling)
        except Exception:
            words = "%s: a prompt could not be computed; the request is ended"
            log.exception(words, self.name, extra=job.exemplar)
            self._end(self._running.pop(), Finish.ERROR)
            return len(job.prompt)
        told = self._told(job)
        if computed:
            told.prefill.observe(perf_counter() - begun_s)
        job.max_tokens = min(job.max_tokens, self._sequences.room(len(job.prompt)))
        told.prompt_tokens.inc(len(job.prompt))
        return len(job.prompt) if computed else 0

    def _told(self, *jobs: Generation) -> TextMetrics:
        """Where it is counted what is computed for these jobs: of replays alone, nowhere."""
        return self._uncounted if all(job.replay for job in jobs) else self._text_metrics

    def _advance(self) -> None:
        rows = len(self._running)
        begun_s = perf_counter()
        drawn = self._sequences.draw(rows, quick=any(not job.tokens for job in self._running))
        told = self._told(*self._running)
        told.decode.observe(perf_counter() - begun_s)
        told.batch_size.observe(rows)
        self._accept(drawn)

    def _accept(self, drawn: Drawn) -> None:
        """Posts what every row drew, and lets finished rows leave."""
        pieces = [
            self._take(job, ids, logs)
            for job, ids, logs in zip(
                self._running, drawn.ids_BK.tolist(), drawn.logs_BK.tolist(), strict=True
            )
        ]
        now_s, rows = perf_counter(), len(pieces)
        both = zip(self._running, pieces, strict=True)
        drawn_for_clients = sum(len(piece.logs) for job, piece in both if not job.replay)
        self._text_metrics.generation_tokens.inc(drawn_for_clients)
        for job, piece in zip(self._running, pieces, strict=True):
            job.calls, job.rows = job.calls + 1, job.rows + rows
            self._time_tokens(job, len(piece.logs), now_s)
            self._speak(job, Piece(piece.text, None, piece.logs, piece.ids), now_s)
        self._leave([(row, piece.finish) for row, piece in enumerate(pieces) if piece.finish])

    def _take(self, job: Generation, ids: Sequence[int], logs: Sequence[float]) -> Piece:
        """The text that a row's tokens complete, up to the one that ends it, if one does.

        A failure here concerns this row alone, and so ends no other.
        """
        text, finish, count = "", None, 0
        try:
            while finish is None and count < len(ids):
                if ids[count] == NO_TOKEN:
                    raise FloatingPointError("the network's logits are not finite")
                more, finish = self._read(job, ids[count])
                text, count, job.tokens = text + more, count + 1, job.tokens + 1
                if finish is None and job.tokens == job.max_tokens:
                    finish = Finish.LENGTH
        except Exception:
            words = "%s: no token could be drawn; the request is ended"
            log.exception(words, self.name, extra=job.exemplar)
            finish = Finish.ERROR
        return Piece(text, finish, logs[:count], ids[:count])

    def _read(self, job: Generation, token: int) -> tuple[str, Finish | None]:
        if token == self._end_id and not job.replay:
            return "", Finish.STOP
        text, stopped = job.transcript.push(token)
        return text, Finish.STOP if stopped else None

    def _time_tokens(self, job: Generation, count: int, now_s: float) -> None:
        """The tokens of one call are handed over together: the first has waited since the last
        hand-over, the others come 0 s after it. So they add up to the time from first to last."""
        if not count:
            return
        told = self._told(job)
        if job.tokens == count:
            job.first_s = job.last_s = now_s
        else:
            told.inter_token.observe(now_s - job.last_s)
        for _ in range(count - 1):
            told.inter_token.observe(0.0)
        job.last_s = now_s

    def _speak(self, job: Generation, piece: Piece, now_s: float) -> None:
        if piece.text and not job.spoke:
            job.spoke = True
            self._told(job).first_token.observe(now_s - job.arrived_s, job.exemplar)
        if piece.text or piece.logs:
            self._post(job, piece)

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
            self._speak(job, Piece(job.transcript.flush()), job.last_s)
            if job.tokens > 1:
                tpot_s = (job.last_s - job.first_s) / (job.tokens - 1)
                self._told(job).per_output_token.observe(tpot_s, job.exemplar)
        self._count(job, reason)
        job.ended = reason
        self._post(job, Piece("", reason))
