"""Pictures of a request -> their probabilities: one core for /classify and /v2.

Shape legend: N classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from serving.api.forms import Files, too_many
from serving.api.jobs.together import All, naming, watched
from serving.engines.images import Classification, ImageEngine, Pixels, Probabilities
from serving.errors import ApiError, InternalError
from serving.pictures.arrays import MAGIC, read_levels
from serving.pictures.pixels import unit
from serving.service import Service


class Pictures(NamedTuple):
    """Files, or decoded pictures [3, 32, 32]."""

    rows: Sequence[bytes | Pixels]
    names: Sequence[str]
    """What each is called where it is refused; "" for one alone."""
    listed: bool
    """Whether they are answered with a list."""


class Seen(NamedTuple):
    jobs: Sequence[Classification]
    """As they ended."""
    rows: Sequence[Probabilities]
    """[N] of every picture."""


def read_files(files: Files, most: int) -> Pictures:
    """The pictures in files, of which an array may have several: up to `most` together. Raises
    RequestError or ImageError."""
    rows: list[bytes | Pixels] = []
    names: list[str] = []
    listed = files.listed
    for number, data in enumerate(files.data):
        name = f"{files.field}[{number}]" if files.listed else ""
        if data.startswith(MAGIC):
            with naming(name, None):
                levels = read_levels(data, most)
            listed = listed or levels.ndim > 3
            found = list(unit(levels.reshape(-1, *levels.shape[-3:])))
        else:
            found = [data]
        rows += found
        names += [name] * len(found)
        if len(rows) > most:
            raise too_many(files.field, most)
    return Pictures(rows, names, listed)


async def see(pictures: Pictures, service: Service, engine: ImageEngine, request: Request) -> Seen:
    """All pictures wait together, or none does. Raises ApiError: of several that are refused what
    concerns the first."""
    if sum(isinstance(row, bytes) for row in pictures.rows) > 1:
        await run_in_threadpool(engine.check_pixels, pictures.rows)
    state = request.state
    jobs = [Classification(row, state.arrived_s, state.request_id) for row in pictures.rows]
    service.submit(engine, *jobs)
    rows: list[Probabilities] = []
    async with watched(All(jobs), request.receive):
        for job, name in zip(jobs, pictures.names, strict=True):
            (row_N,) = await job.outbox.take()
            with naming(name, None):
                rows.append(_answered(row_N))
    return Seen(jobs, rows)


def _answered(row_N: Probabilities | ApiError) -> Probabilities:
    """Raises ApiError."""
    if isinstance(row_N, ApiError):
        raise row_N
    if not np.isfinite(row_N).all():
        raise InternalError("the network's answer is not finite")
    return row_N
