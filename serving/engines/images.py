"""Images: micro-batching. Whatever is decoded when the network is free is computed together.

A picture is decoded from the moment it is accepted, beside all others, and waits in the queue until
then; so none waits for a batch to be decoded. Large ones have threads of their own. Tiny ones are
decoded by the engine's thread, which takes less than handing them to another. Beside the number of
those that wait, the pixels that are still to be decoded are bounded.

Shape legend: B images of the batch, C colour channels, Y rows, X columns, N classes.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from luminanet.artifact.manifest import Manifest
from luminanet.interface import IMAGE_SHAPE, IMAGES, LOGITS
from serving.engines.engine import Engine
from serving.engines.job import Finish, Job, failure
from serving.errors import ApiError, InternalError, OverloadedError, RequestError
from serving.metrics.families import EngineMetrics
from serving.pictures.pixels import LARGE
from serving.runtimes.backend import Backend

log = logging.getLogger("luminanet.engine")

TINY, TINY_BYTES = 1 << 14, 1 << 14
"""Pixels of a picture, and bytes of its file, that take about 0.5 ms at most."""

Pixels = NDArray[np.float32]
Probabilities = NDArray[np.float64]


class ImageBatch:
    """A network bound to one fixed batch of images, at every size from 1 to max_batch."""

    def __init__(self, backend: Backend, manifest: Manifest, max_batch: int) -> None:
        self._images_BCYX = np.zeros((max_batch, *IMAGE_SHAPE), np.float32)
        self._logits_BN = np.zeros((max_batch, len(manifest.labels)), np.float32)
        self._steps = [
            backend.bind({IMAGES: self._images_BCYX[:n]}, {LOGITS: self._logits_BN[:n]})
            for n in range(1, max_batch + 1)
        ]

    def run(self, images: Sequence[Pixels]) -> Probabilities:
        """Probabilities [len(images), N], in float64."""
        for place, pixels_CYX in enumerate(images):
            self._images_BCYX[place] = pixels_CYX
        self._steps[len(images) - 1]()
        logits_BN = self._logits_BN[: len(images)].astype(np.float64)
        weights_BN = np.exp(logits_BN - logits_BN.max(axis=1, keepdims=True))
        return np.asarray(weights_BN / weights_BN.sum(axis=1, keepdims=True))

    def warm_up(self) -> None:
        """Runs every batch size once."""
        for step in self._steps:
            step()


class Classification(Job):
    """One picture, as a file or decoded [C, Y, X]; its outbox gets probabilities [N], or the
    ApiError that explains their lack."""

    def __init__(self, picture: bytes | Pixels, arrived_s: float, request_id: str = "") -> None:
        super().__init__(arrived_s, request_id)
        self.data = picture if isinstance(picture, bytes) else b""
        self.pixels = 0
        """Those that are still to be decoded."""
        self.decoded: Pixels | ApiError | None = None if isinstance(picture, bytes) else picture

    def cancel(self, reason: Finish = Finish.CANCELLED) -> None:
        """As of a Job; the picture is let go at once."""
        super().cancel(reason)
        self.data = b""


class ImageEngine(Engine[Classification]):
    """Decodes pictures on a few threads, and classifies in one run those that are decoded. `size`
    says how many pixels `read` is going to decode.

    Until it is decoded a job stays in `_waiting`, and so counts against the queue's limit.
    """

    def __init__(
        self,
        name: str,
        batch: ImageBatch,
        size: Callable[[bytes], int],
        read: Callable[[bytes], Pixels],
        max_batch: int,
        threads: int,
        queue_limit: int,
        queue_pixels: int,
        metrics: EngineMetrics,
        queue_s: float = 0.0,
    ) -> None:
        super().__init__(name, max_batch, queue_limit, metrics, queue_s)
        self._batch = batch
        self._size, self._read = size, read
        self._queue_pixels, self._pixels = queue_pixels, 0
        self._files: deque[Classification] = deque()
        """Of so few bytes that they may be tiny pictures."""
        self._decoded: deque[Classification] = deque()
        self._small = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="decode-large")
        self._duration = metrics.inference("classify")

    def check_pixels(self, pictures: Iterable[bytes | Pixels]) -> None:
        """Raises RequestError when these pictures could never wait together. It reads a header of
        each: not for the event loop."""
        pixels = sum(self._size(one) for one in pictures if isinstance(one, bytes))
        if pixels > self._queue_pixels:
            raise RequestError(
                f"the pictures have {pixels} pixels together; this server decodes "
                f"{self._queue_pixels} of a request: send smaller ones, or several requests"
            )

    # ------------------------------------------------------------------ called by the event loop

    def submit(self, *jobs: Classification) -> None:
        super().submit(*jobs)
        for job in jobs:
            if len(job.data) > TINY_BYTES:
                self._small.submit(self._sort, job)

    def _queued(self, job: Classification) -> None:
        if job.decoded is not None:
            self._decoded.append(job)
        elif len(job.data) <= TINY_BYTES:
            self._files.append(job)

    def join(self) -> None:
        super().join()
        for pool in self._small, self._large:
            pool.shutdown(cancel_futures=True)

    # ------------------------------------------------------------------ the decoders' threads

    def _sort(self, job: Classification, most: int = LARGE) -> None:
        """Decodes a picture of up to `most` pixels, and leaves a larger one to other threads."""
        pixels = self._size(job.data)
        if not self._reserve(job, pixels):
            self._rejected["overloaded"].inc()
            self._finish(job, self._too_many(pixels))
        elif pixels <= most:
            self._decode(job)
        else:
            (self._large if pixels > LARGE else self._small).submit(self._decode, job)

    def _reserve(self, job: Classification, pixels: int) -> bool:
        """Counts the pixels of a picture until it is decoded; False when there are too many. One
        alone never is."""
        with self._wake:
            if self._pixels and self._pixels + pixels > self._queue_pixels:
                return False
            self._pixels += pixels
            job.pixels = pixels
        return True

    def _too_many(self, pixels: int) -> OverloadedError:
        return OverloadedError(
            f"the picture has {pixels} pixels, and with those that wait more than "
            f"{self._queue_pixels}: send it again later, or a smaller one",
            self._retry_after_s(1),
        )

    def _decode(self, job: Classification) -> None:
        self._finish(job, self._try_read(job))

    def _finish(self, job: Classification, decoded: Pixels | ApiError) -> None:
        with self._wake:
            self._pixels -= job.pixels
            job.decoded, job.data, job.pixels = decoded, b"", 0
            self._decoded.append(job)
            self._wake.notify()

    def _try_read(self, job: Classification) -> Pixels | ApiError:
        try:
            return self._read(job.data)
        except ApiError as error:
            return error
        except Exception:
            words = "%s: a picture could not be decoded; its request is ended"
            log.exception(words, self.name, extra=job.exemplar)
            return InternalError("the server failed on this picture; its log says why")

    # ------------------------------------------------------------------ the engine's thread

    def _startable(self) -> bool:
        ready = bool(self._decoded or self._files)
        return ready or any(job.cancelled for job in self._waiting)

    def _pop(self) -> Classification | None:
        while self._decoded:
            job = self._decoded.popleft()
            if not job.cancelled:  # or else it was forgotten, or will be
                self._waiting.remove(job)
                return job
        return None

    def _step(self) -> None:
        for _ in range(min(len(self._files), self._max_batch)):
            self._sort(self._files.popleft(), TINY)
        while self._next() is not None:
            pass
        images = [j.decoded for j in self._running if isinstance(j.decoded, np.ndarray)]
        answers = iter(self._classify(images) if images else ())
        jobs, self._running = self._running, []
        for job in jobs:
            if isinstance(job.decoded, ApiError):
                self._post(job, job.decoded)
                self._count(job, Finish.ERROR)
            else:
                self._post(job, next(answers))
                self._count(job, Finish.DONE)

    def _classify(self, images: list[Pixels]) -> Probabilities:
        begun_s = perf_counter()
        answers_BN = self._batch.run(images)
        self._duration.observe(perf_counter() - begun_s)
        self._metrics.batch_size.observe(len(images))
        return answers_BN

    def _end(self, job: Classification, reason: Finish) -> None:
        self._count(job, reason)
        self._post(job, failure(reason))
