"""Users: one sends a call, watches its answer come, and tells what it was.

Closed: a user sends when it has been answered. A server that stalls is then sent less, which hides
what its users would wait (coordinated omission). Open: a user sends when the plan says so.
"""

import json
import time
from typing import Any, ClassVar

from geventhttpclient.response import HTTPParseError
from locust import FastHttpUser, tag, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from loadtest import entries
from loadtest.answers import Stream, failure, tokens_of
from loadtest.run import WARM_UP, Run
from loadtest.samples import Sample
from loadtest.workload import Call, call, shape_of

FRAME_END = b"\n\n"
BROKEN = (*FAILURE_EXCEPTIONS, HTTPParseError, ValueError, KeyError)
"""What a connection that breaks raises, and an answer that is not one of the API's."""


class Sender(FastHttpUser):
    """What all users do. `load` is set before the first of them is made."""

    abstract = True
    load: ClassVar[Run]
    concurrency = 1
    """One connection, kept."""

    def send(self, name: str, draw: int, intended_s: float | None = None, step: int = 0) -> None:
        """Sends the request that `draw` stands for, and tells the run and locust what it was."""
        request, answer = call(name, draw), Stream()
        sent_s = time.monotonic()
        try:
            self._exchange(request, answer, shape_of(name).streams)
        except BROKEN as error:
            answer.error = f"{type(error).__name__}: {error}"[:200]
        sample = Sample(
            step=step,
            shape=name,
            intended_s=sent_s if intended_s is None else intended_s,
            sent_s=sent_s,
            done_s=time.monotonic(),
            first_s=answer.first_s,
            last_s=answer.last_s,
            tokens=answer.tokens,
            gaps_s=tuple(answer.gaps_s),
            error=answer.error,
        )
        if step != WARM_UP:
            entries.tell(self.environment, sample)
        self.load.record(sample)

    def _exchange(self, request: Call, answer: Stream, streams: bool) -> None:
        """Raises one of BROKEN."""
        response = self._post(request)
        if response.status_code == 200 and streams:
            while frame := response.stream.readline(FRAME_END):
                answer.frame(frame, time.monotonic())
        elif response.status_code == 200:
            answer.tokens = tokens_of(response.stream.read())
            answer.error = ""
        elif response.status_code:
            what = failure(json.loads(response.content or b"null"))
            answer.error = f"{response.status_code} {what}"
        else:
            raise response.error

    def _post(self, request: Call) -> Any:
        """The response once its head has come. That it is caught and never entered keeps locust
        from counting it: `entries.tell` does."""
        return self.client.request(
            "POST",
            request.path,
            data=request.body,  # type: ignore[arg-type]  # bytes are sent as they are
            headers={"Content-Type": request.content_type, "Accept-Encoding": "identity"},
            stream=True,
            catch_response=True,
        )


class Planned(Sender):
    """A user of an open loop: waits for the run to give it a request."""

    @task
    def work(self) -> None:
        job = self.load.pool.wait()
        self.send(job.arrival.shape, job.arrival.draw, job.intended_s, job.step)


class Closed(Sender):
    """A user of a closed loop: sends, waits for the answer and thinks."""

    abstract = True
    model: ClassVar[str]

    def wait_time(self) -> float:
        return float(self.environment.parsed_options.think)

    @tag("stream")
    @task(3)
    def stream(self) -> None:
        self._ask("stream")

    @tag("whole")
    @task(1)
    def whole(self) -> None:
        self._ask("whole")

    def _ask(self, kind: str) -> None:
        self.send(f"{self.model} {kind}", self.load.draw.getrandbits(32))


class LuminaNet(Closed):
    model = "luminanet"

    @tag("classify")
    @task(1)
    def classify(self) -> None:
        self._ask("classify")


class GPT2(Closed):
    model = "gpt2"
