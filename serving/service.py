"""The engines of one app, and its life: created (warm) -> started -> draining -> stopped.

What is served may change meanwhile (`reload`): the folder of artifacts is loaded anew beside what
is served, and takes its place at once when all of it is warm. Requests end with the engines they
began with, which end after them.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from luminanet.artifact.manifest import Family
from luminanet.errors import ConfigError, LuminaNetError
from luminanet.untrusted import shown
from serving.engines.engine import Engine
from serving.engines.images import ImageEngine
from serving.engines.job import Job
from serving.engines.making import image_engine, labels_of, text_engine
from serving.engines.text import Generation, TextEngine
from serving.errors import (
    ModelNotLoadedError,
    ReloadError,
    ReloadRunningError,
    ShuttingDownError,
)
from serving.metrics.families import Labels, Metrics
from serving.metrics.loaded import Loaded, LoadedCollector
from serving.metrics.memory import MemoryGauges
from serving.models.load import ImageModel, Models, TextModel, load_for
from serving.settings import Settings
from serving.shadow import Shadow, Side

J = TypeVar("J", bound=Job)
M = TypeVar("M")
E = TypeVar("E")

log = logging.getLogger("luminanet.service")

POLL_S = 0.01
KEPT = "nothing was loaded, and what was served still is"


class Fleet:
    """Models, each with a warm engine, by what requests may call them: the name of the artifact,
    and of a default its family. Raises ArtifactError when a network fails to run."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.models = models
        self.text: dict[str, tuple[TextModel, TextEngine]] = {}
        self.image: dict[str, tuple[ImageModel, ImageEngine]] = {}
        self.engines: list[Engine[Any]] = []
        self.loaded: list[Loaded] = []
        for model in models.all:
            called = models.called(model)
            names = (called, model.manifest.name)
            if isinstance(model, TextModel):
                writer, loaded = text_engine(model, called, settings, metrics)
                self.text |= dict.fromkeys(names, (model, writer))
                self.engines.append(writer)
            else:
                viewer, loaded = image_engine(model, called, settings, metrics)
                self.image |= dict.fromkeys(names, (model, viewer))
                self.engines.append(viewer)
            self.loaded.append(loaded)
        self._holders: set[asyncio.Task[Any]] = set()

    def hold(self) -> None:
        """The task that asks keeps the engines until it is done: a request has one of its own, and
        may wait between looking for a model and giving it work."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # asked from outside of the event loop
            return
        if task:
            self._holders.add(task)
            task.add_done_callback(self._holders.discard)

    @property
    def held(self) -> bool:
        return bool(self._holders)

    @property
    def idle(self) -> bool:
        return all(engine.idle for engine in self.engines)

    def fingerprints(self) -> dict[Labels, str]:
        models = self.models
        return {labels_of(m, models.called(m)): m.fingerprint for m in models.all}

    def sides(self, artifacts: Path) -> tuple[Side, Side]:
        """What a shadow compares. Raises ConfigError when there are no two models to compare."""
        if missing := [family.value for family in Family if family not in self.text]:
            raise ConfigError(
                f"--shadow compares luminanet and gpt2, but no text model {missing[0]} is under "
                f"{artifacts}: add it, or serve with --shadow 0"
            )
        return Side(*self.text[Family.LUMINANET]), Side(*self.text[Family.GPT2])

    async def stop(self) -> None:
        """Ends what is left, and the threads."""
        for engine in self.engines:
            engine.stop()
        for engine in self.engines:
            await asyncio.to_thread(engine.join)


class Service:
    """Models, each with a warm engine. Raises ArtifactError when a network fails to run."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._fleet = Fleet(settings, models, metrics)
        self._ending: list[Fleet] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloading = False
        self._shadow = self._shadowed() if settings.shadow else None
        self._memory = MemoryGauges(metrics.registry)
        self._memory.tell_file(settings.measured_memory, self._fleet.fingerprints())
        metrics.registry.register(
            LoadedCollector(
                lambda: self._fleet.loaded,
                lambda: [model for fleet in self._ending for model in fleet.loaded],
            )
        )
        self.started = self.draining = False
        metrics.ready.set_function(lambda: self.ready)

    @property
    def models(self) -> Models:
        return self._fleet.models

    def text(self, name: str) -> tuple[TextModel, TextEngine]:
        """A model by the name of its artifact, or the default of a family by that of the family.
        Raises ModelNotLoadedError."""
        self._fleet.hold()
        return _find(self._fleet.text, name, "text")

    def image(self, name: str = Family.LUMINANET) -> tuple[ImageModel, ImageEngine]:
        """As `text`."""
        self._fleet.hold()
        return _find(self._fleet.image, name, "image")

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
        if self._shadow and isinstance(job, Generation):
            self._shadow.offer(job, engine)

    def _shadowed(self) -> Shadow:
        """Raises ConfigError when there are no two models to compare."""
        sides = self._fleet.sides(self.settings.artifacts)
        return Shadow(*sides, self.settings.shadow, lambda: self.idle, self.metrics)

    # ------------------------------------------------------------------ life

    @property
    def live(self) -> bool:
        """Whether all engines run, as they must from the start until they are stopped."""
        return not self.started or all(engine.alive for engine in self._fleet.engines)

    @property
    def ready(self) -> bool:
        return self.started and not self.draining and self.live

    @property
    def idle(self) -> bool:
        return all(fleet.idle for fleet in self._fleets)

    @property
    def _fleets(self) -> list[Fleet]:
        return [self._fleet, *self._ending]

    def start(self) -> None:
        for engine in self._fleet.engines:
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
        for fleet in self._fleets:
            for engine in fleet.engines:
                engine.drain()
        end_s = perf_counter() + self.settings.grace_seconds
        while not self.idle and not hurry() and perf_counter() < end_s:
            await asyncio.sleep(POLL_S)
        await self.stop()

    async def stop(self) -> None:
        self.draining = True
        if self._shadow:
            await self._shadow.stop()
        for fleet in self._fleets:
            await fleet.stop()
        self.started = False

    # ------------------------------------------------------------------ what is served changes

    def begin_reload(self) -> None:
        """As `reload`, for one who does not wait: the log says how it ends."""
        self._keep(asyncio.create_task(self._reload_or_tell(), name="reload"))

    async def _reload_or_tell(self) -> None:
        try:
            await self.reload()
        except ReloadError:
            pass  # it is in the log
        except (ReloadRunningError, ShuttingDownError) as error:
            log.warning("no reload: %s", error)

    async def reload(self) -> None:
        """Serves what is in the folder of artifacts now, from one moment to the next: requests that
        come before get what was served, and end with it. Where something cannot be loaded, nothing
        changes. Raises ReloadError, ReloadRunningError or ShuttingDownError."""
        if self._reloading:
            raise ReloadRunningError("a reload is running already: send this again when it is done")
        self._reloading = True
        try:
            begun_s = perf_counter()
            log.info("loading %s anew", self.settings.artifacts)
            fleet = await self._loaded()
            if self._shadow:
                await self._shadow.stop()
            self._check_not_draining()
            self._adopt(fleet)
            names = ", ".join(model.manifest.name for model in fleet.models.all)
            log.info("serving %s, loaded in %.1f s", names, perf_counter() - begun_s)
        finally:
            self._reloading = False

    async def _loaded(self) -> Fleet:
        """Of a thread beside the event loop. Raises ReloadError, or ShuttingDownError as soon as a
        drain begins, which waits for nothing that is not served."""
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        loading.add_done_callback(lambda task: task.cancelled() or task.exception())  # if left
        while not loading.done():
            self._check_not_draining()
            await asyncio.wait({loading}, timeout=POLL_S)
        return loading.result()

    def _check_not_draining(self) -> None:
        if self.draining:
            raise ShuttingDownError("the server is shutting down: nothing is loaded any more")

    def _load(self) -> Fleet:
        """Raises ReloadError; the log says it too."""
        try:
            fleet = Fleet(self.settings, load_for(self.settings), self.metrics)
            if self._shadow:
                fleet.sides(self.settings.artifacts)
        except LuminaNetError as error:
            log.error("%s: %s", KEPT, error)
            raise ReloadError(f"{KEPT}: {error}") from error
        except Exception as error:
            log.exception("%s: the server failed", KEPT)
            raise ReloadError(f"{KEPT}: the server failed; its log says why") from error
        return fleet

    def _adopt(self, fleet: Fleet) -> None:
        """Between two events of the loop: no request sees a half of it."""
        before, self._fleet = self._fleet, fleet
        self._ending.append(before)
        if self._shadow:
            self._shadow.follow(*fleet.sides(self.settings.artifacts))
        self._memory.tell_file(self.settings.measured_memory, fleet.fingerprints())
        self.start()
        self._keep(asyncio.create_task(self._end(before), name="end engines"))

    async def _end(self, fleet: Fleet) -> None:
        """Stops engines when the last request that began with them is done."""
        while fleet.held or not fleet.idle:
            await asyncio.sleep(POLL_S)
        await fleet.stop()
        self._ending.remove(fleet)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _find(models: Mapping[str, tuple[M, E]], name: str, kind: str) -> tuple[M, E]:
    if name not in models:
        loaded = ", ".join(models) or f"no {kind} model"
        raise ModelNotLoadedError(
            f"{shown(name)} is no {kind} model that is loaded here: this server has {loaded}",
            "model",
        )
    return models[name]
