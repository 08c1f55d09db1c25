"""What answers have in common: how an error is told, and Server-Timing."""

from time import perf_counter

from fastapi.responses import JSONResponse

from serving import errors
from serving.api.oip import errors as oip
from serving.engines.engine import Job
from serving.engines.text import Generation
from serving.errors import ApiError

SERVER_TIMING = "Server-Timing"


def answer(error: ApiError, path: str) -> JSONResponse:
    """In the words of the protocol that the path belongs to."""
    told = oip if oip.speaks(path) else errors
    return JSONResponse(told.body(error), told.status(error), errors.headers(error))


def server_timing(*jobs: Job) -> dict[str, str]:
    """The header of a whole answer to these jobs, which have ended, in milliseconds: `queue`, the
    wait for a place in a batch; `first_token`, of texts, and `total`, both from the end of the
    request's headers. Of several jobs the longest wait and the earliest token.

    Source: https://www.w3.org/TR/server-timing/
    """
    arrived_s = jobs[0].arrived_s
    spans_s = {"queue": max(job.started_s - job.submitted_s for job in jobs)}
    texts = [job.first_s for job in jobs if isinstance(job, Generation)]
    if texts:
        spans_s["first_token"] = min(texts) - arrived_s
    spans_s["total"] = perf_counter() - arrived_s
    told = ", ".join(f"{name};dur={1000 * span_s:.3f}" for name, span_s in spans_s.items())
    return {SERVER_TIMING: told}
