"""Images: micro-batching. Whatever waits when the network is free is computed together.

Shape legend: B images of the batch, C colour channels, Y rows, X columns, N classes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from luminanet.manifest import Manifest
from serving.engine import Engine, Finish, Job, failure
from serving.errors import ApiError
from serving.interface import IMAGE_SHAPE
from serving.metrics import EngineMetrics
from serving.runtime import Backend

Pixels = NDArray[np.float32]
Probabilities = NDArray[np.float64]


class ImageBatch:
    """A network bound to one fixed batch of images, at every size from 1 to max_batch."""

    def __init__(self, backend: Backend, manifest: Manifest, max_batch: int) -> None:
        self._images_BCYX = np.zeros((max_batch, *IMAGE_SHAPE), np.float32)
        self._logits_BN = np.zeros((max_batch, len(manifest.labels)), np.float32)
        self._steps = [
            backend.bind({"images": self._images_BCYX[:n]}, {"logits": self._logits_BN[:n]})
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
    """One picture; its outbox gets probabilities [N], or the ApiError that explains their lack."""

    def __init__(self, data: bytes, arrived_s: float) -> None:
        super().__init__(arrived_s)
        self.data = data


class ImageEngine(Engine[Classification]):
    """Decodes pictures on a few threads, then classifies those that wait in one run."""

    def __init__(
        self,
        name: str,
        batch: ImageBatch,
        read: Callable[[bytes], Pixels],
        max_batch: int,
        threads: int,
        queue_limit: int,
        metrics: EngineMetrics,
    ) -> None:
        super().__init__(name, queue_limit, metrics)
        self._batch = batch
        self._read = read
        self._max_batch = max_batch
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._duration = metrics.inference("classify")

    def join(self) -> None:
        super().join()
        self._decoders.shutdown()

    def _step(self) -> None:
        while len(self._running) < self._max_batch and (job := self._next()) is not None:
            self._running.append(job)
        pixels = self._decode([job.data for job in self._running])
        good = [image for image in pixels if not isinstance(image, ApiError)]
        answers = iter(self._classify(good) if good else ())
        jobs, self._running = self._running, []
        for job, image in zip(jobs, pixels, strict=True):
            if isinstance(image, ApiError):
                self._post(job, image)
                self._metrics.finished(Finish.ERROR).inc()
            else:
                self._post(job, next(answers))
                self._metrics.finished(Finish.DONE).inc()

    def _decode(self, pictures: list[bytes]) -> list[Pixels | ApiError]:
        if len(pictures) == 1:
            return [self._try_read(pictures[0])]
        return list(self._decoders.map(self._try_read, pictures))

    def _try_read(self, data: bytes) -> Pixels | ApiError:
        try:
            return self._read(data)
        except ApiError as error:
            return error

    def _classify(self, images: list[Pixels]) -> Probabilities:
        begun_s = perf_counter()
        answers_BN = self._batch.run(images)
        self._duration.observe(perf_counter() - begun_s)
        self._metrics.batch_size.observe(len(images))
        return answers_BN

    def _end(self, job: Classification, reason: Finish) -> None:
        self._metrics.finished(reason).inc()
        self._post(job, failure(reason))
