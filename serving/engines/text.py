"""Text: continuous batching. Requests join and leave between two calls of the network.

A step of the engine:  cancelled rows leave -> waiting requests join (up to max_batch rows, and
PROMPT_TOKENS of prompts that are computed) -> one call draws K tokens for every row -> finished
rows leave, and what they drew too much is lost. Requests that ask for more than the decode graphs
know are opened rows: they lie apart, and get one token a step (opened.py).

The first token comes first: a call draws as few tokens as it can while a row waits for its first.

Same seed, same text: a row's tokens depend on its own text, its own parameters and how many tokens
it has drawn before; neither on K nor on its neighbours.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling, Token
from serving.engines.detokenize import Transcript
from serving.engines.engine import Engine
from serving.engines.job import Finish, Job
from serving.engines.opened import Opened, Told, Wish
from serving.engines.sequences import Sequences
from serving.metrics.families import TextMetrics

log = logging.getLogger("luminanet.engine")

PROMPT_TOKENS = 256
"""Of prompts that are computed between two calls; the last of them may go beyond. So running texts
wait for a prompt or two, not for all that came at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that became certain in one step, and the tokens drawn in it with their
    log-probabilities and, where they are asked for, the most likely ones in their places; `finish`
    is set on the last piece of a request.

    A piece `of_prompt` has all tokens of the prompt instead. What the first is as likely as is not
    known: its log-probability is None.
    """

    text: str
    finish: Finish | None = None
    logs: Sequence[float | None] = ()
    ids: Sequence[int] = ()
    tops: Sequence[Sequence[Token]] = ()
    of_prompt: bool = False


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
        *,
        wish: Wish = Wish(),  # noqa: B008
        ignore_eos: bool = False,
    ) -> None:
        """With max_tokens 0 it ends as soon as its prompt is told, if that is wished for."""
        super().__init__(arrived_s, request_id)
        self.prompt = prompt
        self.transcript = transcript
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.wish = wish
        self.ignore_eos = ignore_eos or self.replay
        self.given: list[Told] = []
        """What is known of the prompt's tokens but the first, which nothing precedes."""
        self.prompt_due = wish.prompt
        """Whether its client is still to be told that."""
        self.tokens = 0
        self.first_s = self.last_s = 0.0
        self.spoke = False
        self.calls = self.rows = 0
        """Calls that drew for it, and the rows of all of them together."""
        self.ended: Finish | None = None

    @property
    def opened(self) -> bool:
        """Whether it is for opened rows."""
        return bool(self.wish) or not self.sampling.in_graphs

    @property
    def company(self) -> float:
        """How many sequences were computed together, itself included, on average over its calls."""
        return self.rows / self.calls if self.calls else 0.0


class Replay(Generation):
    """A request that no client waits for: of a given length whatever it says, and counted nowhere
    but by who asked for it (shadow.py)."""

    replay = True


class Movable(Protocol):
    def move(self, source: int, target: int) -> None: ...


class Places:
    """Whose the rows of sequences are: row i belongs to `jobs[i]`, and they stay compact."""

    def __init__(self, sequences: Movable) -> None:
        self._sequences = sequences
        self.jobs: list[Generation] = []

    def leave(self, row: int) -> Generation:
        """Lets a row go, and moves the last one into the gap."""
        job, last = self.jobs[row], self.jobs.pop()
        if last is not job:
            self.jobs[row] = last
            self._sequences.move(len(self.jobs), row)
        return job


class TextEngine(Engine[Generation]):
    """Runs the generations of one model."""

    def __init__(
        self,
        name: str,
        sequences: Sequences,
        opened: Opened,
        end_id: int,
        max_batch: int,
        queue_limit: int,
        metrics: TextMetrics,
        queue_s: float = 0.0,
    ) -> None:
        super().__init__(name, max_batch, queue_limit, metrics, queue_s)
        self._sequences, self._opened = sequences, opened
        self._plain_rows, self._opened_rows = Places(sequences), Places(opened)
        self._end_id = end_id
        self._text_metrics = metrics
        self._uncounted = metrics.apart()

    def room(self, prompt: int) -> int:
        """How many tokens can follow a prompt of so many."""
        return self._sequences.room(prompt)

    def _step(self) -> None:
        for places in self._places:
            jobs = enumerate(places.jobs)
            self._leave(places, [(row, job.leaving) for row, job in jobs if job.leaving])
        computed = 0
        while computed < PROMPT_TOKENS and (job := self._next()) is not None:
            if job.leaving:  # since then: prompts that were computed before it take their time
                self._end(self._running.pop(), job.leaving)
            elif not (job.max_tokens or job.wish.prompt):
                self._end(self._running.pop(), Finish.LENGTH)
            else:
                computed += self._join(job)
        if self._plain_rows.jobs:
            self._advance()
        if self._opened_rows.jobs:
            self._advance_opened()

    @property
    def _places(self) -> tuple[Places, Places]:
        return self._plain_rows, self._opened_rows

    def _join(self, job: Generation) -> int:
        """Starts the last of `_running`. Returns how many tokens were computed for that."""
        begun_s = perf_counter()
        places = self._opened_rows if job.opened else self._plain_rows
        try:
            computed = self._start(job)
        except Exception:
            words = "%s: a prompt could not be computed; the request is ended"
            log.exception(words, self.name, extra=job.exemplar)
            self._end(self._running.pop(), Finish.ERROR)
            return len(job.prompt)
        told = self._told(job)
        if computed:
            told.prefill.observe(perf_counter() - begun_s)
        places.jobs.append(job)
        job.max_tokens = min(job.max_tokens, self.room(len(job.prompt)))
        told.prompt_tokens.inc(len(job.prompt))
        return len(job.prompt) if computed else 0

    def _start(self, job: Generation) -> bool:
        """Gives it a row. Returns whether its prompt was computed."""
        if job.opened:
            row = len(self._opened_rows.jobs)
            return self._opened.join(row, job.prompt, job.sampling, job.wish)
        return self._sequences.join(len(self._plain_rows.jobs), job.prompt, job.sampling)

    def _told(self, *jobs: Generation) -> TextMetrics:
        """Where it is counted what is computed for these jobs: of replays alone, nowhere."""
        return self._uncounted if all(job.replay for job in jobs) else self._text_metrics

    def _advance(self) -> None:
        jobs = self._plain_rows.jobs
        begun_s = perf_counter()
        drawn = self._sequences.draw(len(jobs), quick=any(not job.tokens for job in jobs))
        self._time_call(jobs, begun_s)
        both = zip(drawn.ids_BK.tolist(), drawn.logs_BK.tolist(), strict=True)
        self._accept(
            self._plain_rows,
            [self._take(job, *row) for job, row in zip(jobs, both, strict=True)],
        )

    def _advance_opened(self) -> None:
        jobs = self._opened_rows.jobs
        begun_s = perf_counter()
        told = self._opened.draw(len(jobs))
        self._time_call(jobs, begun_s)
        pieces = [self._hear(job, one) for job, one in zip(jobs, told, strict=True)]
        self._accept(self._opened_rows, pieces)

    def _time_call(self, jobs: Sequence[Generation], begun_s: float) -> None:
        told = self._told(*jobs)
        told.decode.observe(perf_counter() - begun_s)
        told.batch_size.observe(len(jobs))

    def _accept(self, places: Places, pieces: Sequence[Piece]) -> None:
        """Posts what every row drew, and lets finished rows leave."""
        now_s, rows = perf_counter(), len(pieces)
        both = zip(places.jobs, pieces, strict=True)
        drawn_for_clients = sum(len(piece.logs) for job, piece in both if not job.replay)
        self._text_metrics.generation_tokens.inc(drawn_for_clients)
        for job, piece in zip(places.jobs, pieces, strict=True):
            job.calls, job.rows = job.calls + 1, job.rows + rows
            self._time_tokens(job, len(piece.logs), now_s)
            self._speak(job, Piece(piece.text, None, piece.logs, piece.ids, piece.tops), now_s)
        ended = [(row, piece.finish) for row, piece in enumerate(pieces) if piece.finish]
        self._leave(places, ended)

    def _hear(self, job: Generation, one: Told) -> Piece:
        """What a call told of an opened row: a token of the prompt, or one that was drawn."""
        if one.given:
            if one.token.id == NO_TOKEN:
                log.error("%s: a prompt's logits are not finite; its request is ended", self.name)
                return Piece("", Finish.ERROR)
            job.given.append(one)
        if job.prompt_due and len(job.given) == len(job.prompt) - 1:
            self._tell_prompt(job)
        if one.given or not job.max_tokens:
            return Piece("", None if job.prompt_due or job.max_tokens else Finish.LENGTH)
        piece = self._take(job, [one.token.id], [one.token.log_probability])
        return replace(piece, tops=[one.top] if job.wish.top and piece.ids else ())

    def _tell_prompt(self, job: Generation) -> None:
        job.prompt_due = False
        logs = [None, *(one.token.log_probability for one in job.given)]
        tops = [(), *(one.top for one in job.given)] if job.wish.top else ()
        self._post(job, Piece("", None, logs, job.prompt, tops, of_prompt=True))

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
        if token == self._end_id and not job.ignore_eos:
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

    def _leave(self, places: Places, ended: list[tuple[int, Finish]]) -> None:
        """Lets rows (rising) go."""
        for row, reason in reversed(ended):
            job = places.leave(row)
            self._running.remove(job)
            self._end(job, reason)

    def _end_running(self, reason: Finish) -> None:
        for places in self._places:
            places.jobs.clear()
        super()._end_running(reason)

    def _end(self, job: Generation, reason: Finish) -> None:
        if reason in (Finish.STOP, Finish.LENGTH):
            self._speak(job, Piece(job.transcript.flush()), job.last_s)
            if job.tokens > 1:
                tpot_s = (job.last_s - job.first_s) / (job.tokens - 1)
                self._told(job).per_output_token.observe(tpot_s, job.exemplar)
        self._count(job, reason)
        job.ended = reason
        self._post(job, Piece("", reason))
