"""The engines of one app, and its life: created (warm) -> started -> draining -> stopped."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from luminanet.artifact.manifest import Family, Manifest
from luminanet.errors import ArtifactError, ConfigError
from luminanet.untrusted import line
from serving.engines import selftest
from serving.engines.engine import Engine, Job
from serving.engines.images import ImageBatch, ImageEngine
from serving.engines.opened import Opened
from serving.engines.sequences import GROUPS, Caches, Sequences, Windows, rows_agree, warm_up
from serving.engines.text import Generation, TextEngine
from serving.errors import ModelNotLoadedError
from serving.metrics.families import EngineMetrics, Metrics, TextMetrics
from serving.metrics.memory import MemoryGauges
from serving.models.interface import state_bytes
from serving.models.load import ImageModel, Models, TextModel
from serving.models.memory import allowance, ceiling
from serving.pictures.pixels import claimed_pixels, read_image
from serving.settings import Settings
from serving.shadow import Shadow, Side

J = TypeVar("J", bound=Job)

POLL_S = 0.01
FEWEST_TRIED = 16
"""Rows with which it is tried what a row does in batches of other sizes, at least."""
NO_MEMORY = "Failed to allocate memory"
"""What onnxruntime says, in an exception of no class of its own."""


class Service:
    """Models, each with a warm engine. Raises ArtifactError when a network fails to run."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self._text = {
            family: _text_engine(model, settings, metrics) for family, model in models.text.items()
        }
        self._image = _image_engine(models.image, settings, metrics) if models.image else None
        self._engines: list[Engine[Any]] = list(self._text.values())
        if self._image:
            self._engines.append(self._image)
        self._shadow = self._shadowed() if settings.shadow else None
        served = {_labels(model): model.fingerprint for model in models.all}
        MemoryGauges(metrics.registry).tell_file(settings.measured_memory, served)
        self.started = self.draining = False
        metrics.ready.set_function(lambda: self.ready)

    def text(self, name: str) -> tuple[TextModel, TextEngine]:
        """Raises ModelNotLoadedError."""
        family = Family(name)
        if family not in self._text:
            loaded = " and ".join(self._text) or "no text model"
            raise ModelNotLoadedError(
                f"{name} is not loaded here: this server has {loaded}", "model"
            )
        return self.models.text[family], self._text[family]

    def image(self) -> tuple[ImageModel, ImageEngine]:
        """Raises ModelNotLoadedError."""
        if self.models.image is None or self._image is None:
            raise ModelNotLoadedError("no image model is loaded here: see /models for what is")
        return self.models.image, self._image

    def submit(self, engine: Engine[J], *jobs: J) -> None:
        """Gives a client's jobs to their engine, which they leave at their deadline; whatever no
        client waits for makes room first.
        Raises OverloadedError, ShuttingDownError or UnavailableError."""
        if self._shadow:
            self._shadow.give_way()
        engine.submit(*jobs)
        for job in jobs:
            self._started(engine, job)

    def _started(self, engine: Engine[J], job: J) -> None:
        if self.settings.deadline_seconds:
            left_s = job.arrived_s + self.settings.deadline_seconds - perf_counter()
            asyncio.get_running_loop().call_later(left_s, engine.expire, job)
        if self._shadow and isinstance(job, Generation) and engine is self._text[Family.LUMINANET]:
            self._shadow.offer(job)

    def _shadowed(self) -> Shadow:
        """Raises ConfigError when there are no two models to compare."""
        if missing := [family.value for family in Family if family not in self._text]:
            raise ConfigError(
                f"--shadow compares luminanet and gpt2, but no text model {missing[0]} is under "
                f"{self.settings.artifacts}: add it, or serve with --shadow 0"
            )
        ours, theirs = (Side(*self.text(family)) for family in (Family.LUMINANET, Family.GPT2))
        return Shadow(ours, theirs, self.settings.shadow, lambda: self.idle, self.metrics)

    # ------------------------------------------------------------------ life

    @property
    def live(self) -> bool:
        """Whether all engines run, as they must from the start until they are stopped."""
        return not self.started or all(engine.alive for engine in self._engines)

    @property
    def ready(self) -> bool:
        return self.started and not self.draining and self.live

    @property
    def idle(self) -> bool:
        return all(engine.idle for engine in self._engines)

    def start(self) -> None:
        for engine in self._engines:
            engine.start(asyncio.get_running_loop())
        if self._shadow:
            self._shadow.start()
        self.started = True

    async def drain(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Refuses new work and waits until all is done, grace_seconds passed or hurry() is true;
        then ends what is left."""
        self.draining = True
        if self._shadow:
            await self._shadow.stop()
        for engine in self._engines:
            engine.drain()
        end_s = perf_counter() + self.settings.grace_seconds
        while not self.idle and not hurry() and perf_counter() < end_s:
            await asyncio.sleep(POLL_S)
        await self.stop()

    async def stop(self) -> None:
        self.draining = True
        if self._shadow:
            await self._shadow.stop()
        for engine in self._engines:
            engine.stop()
        for engine in self._engines:
            await asyncio.to_thread(engine.join)
        self.started = False


def _labels(model: ImageModel | TextModel) -> tuple[str, ...]:
    manifest = model.manifest
    return manifest.family.value, model.backend.name, manifest.task.value


def _text_engine(model: TextModel, settings: Settings, metrics: Metrics) -> TextEngine:
    manifest, size = model.manifest, settings.max_batch
    with _first_runs(manifest, settings):
        ratios = selftest.try_text(model, _plain_rows)
    selftest.refuse(manifest, ratios)
    with _first_runs(manifest, settings):
        sequences = _sequences(model, size)
        if sequences:
            warm_up(sequences, manifest.context, size)
    if not sequences:
        raise ArtifactError(
            f"{manifest.name}: what is computed of a text depends here on the size of its batch, "
            "so it cannot be reproducible: freeze its checkpoint again with --form bus, or serve "
            "with --precision fp32"
        )
    told = TextMetrics(
        metrics,
        manifest,
        model.backend.name,
        sequences.bytes_per_sequence,
        model.precision,
        model.how.steps,
    )
    told.limits(size, settings.queue_limit)
    told.proved(ratios)
    return TextEngine(
        manifest.family.value,
        sequences,
        Opened(_rows(model, size, sequences.group, opened=True), manifest.context),
        manifest.end_id,
        size,
        settings.queue_limit,
        told,
    )


def _sequences(model: TextModel, size: int) -> Windows | Caches | None:
    """Rows for a model. Where texts must be reproducible, those in the smallest groups with which
    rows agree on this machine, or None when they never do."""
    if not model.how.reproducible:
        return _rows(model, size, 1)
    tried = max(size, FEWEST_TRIED)  # so that servers with fewer rows write the same texts
    for group in GROUPS:
        if rows_agree(_rows(model, tried, group), model.manifest.vocab_size, tried):
            return _rows(model, size, group)
    return None


def _rows(model: TextModel, size: int, group: int, opened: bool = False) -> Windows | Caches:
    manifest, steps = model.manifest, model.how.steps
    if model.prompts is None:
        return Windows(model.backend, manifest, size, steps, group, opened)
    return Caches(model.backend, model.prompts, manifest, size, steps, group, opened)


def _plain_rows(model: TextModel, size: int) -> Sequences:
    return _rows(model, size, group=1)


def _image_engine(model: ImageModel, settings: Settings, metrics: Metrics) -> ImageEngine:
    with _first_runs(model.manifest, settings):
        ratios = selftest.try_image(model)
    selftest.refuse(model.manifest, ratios)
    with _first_runs(model.manifest, settings):
        batch = ImageBatch(model.backend, model.manifest, settings.max_batch)
        batch.warm_up()
    told = EngineMetrics(metrics, model.manifest, model.backend.name, model.precision)
    told.limits(settings.max_batch, settings.queue_limit)
    told.proved(ratios)
    return ImageEngine(
        model.manifest.family.value,
        batch,
        partial(claimed_pixels, max_pixels=settings.max_image_pixels),
        partial(read_image, max_pixels=settings.max_image_pixels),
        settings.max_batch,
        settings.compute_threads,
        settings.queue_limit,
        settings.queue_pixels,
        told,
    )


@contextmanager
def _first_runs(manifest: Manifest, settings: Settings) -> Iterator[None]:
    sizes = (entry.bytes for entry in (manifest.files or {}).values())
    state = settings.max_batch * state_bytes(manifest)
    try:
        with ceiling(allowance(sum(sizes), settings.compute_threads, state)):
            yield
    except Exception as error:  # the runtime's errors have no common base
        reason = str(error).rpartition("Status Message: ")[2] or type(error).__name__
        if NO_MEMORY in reason or isinstance(error, MemoryError):
            reason = "it asks for more memory than a network of its size should; lower --max-batch"
        raise ArtifactError(
            f"{manifest.name}: the network fails to run: {line(reason)}; or freeze it again"
        ) from error
