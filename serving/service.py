"""The engines of one app, and its life: created (warm) -> started -> draining -> stopped."""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, TypeVar

from luminanet.artifact.manifest import Family
from luminanet.errors import ConfigError
from luminanet.untrusted import shown
from serving.engines.engine import Engine, Job
from serving.engines.images import ImageEngine
from serving.engines.making import image_engine, labels_of, text_engine
from serving.engines.text import Generation, TextEngine
from serving.errors import ModelNotLoadedError
from serving.metrics.families import Metrics
from serving.metrics.loaded import Loaded, LoadedCollector
from serving.metrics.memory import MemoryGauges
from serving.models.load import ImageModel, Models, TextModel
from serving.settings import Settings
from serving.shadow import Shadow, Side

J = TypeVar("J", bound=Job)
M = TypeVar("M")
E = TypeVar("E")

POLL_S = 0.01


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


class Service:
    """Models, each with a warm engine. Raises ArtifactError when a network fails to run."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._fleet = Fleet(settings, models, metrics)
        self._shadow = self._shadowed() if settings.shadow else None
        served = {labels_of(m, models.called(m)): m.fingerprint for m in models.all}
        MemoryGauges(metrics.registry).tell_file(settings.measured_memory, served)
        metrics.registry.register(LoadedCollector(lambda: self._fleet.loaded, lambda: []))
        self.started = self.draining = False
        metrics.ready.set_function(lambda: self.ready)

    @property
    def models(self) -> Models:
        return self._fleet.models

    def text(self, name: str) -> tuple[TextModel, TextEngine]:
        """A model by the name of its artifact, or the default of a family by that of the family.
        Raises ModelNotLoadedError."""
        return _find(self._fleet.text, name, "text")

    def image(self, name: str = Family.LUMINANET) -> tuple[ImageModel, ImageEngine]:
        """As `text`."""
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
        if missing := [family.value for family in Family if family not in self._fleet.text]:
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
        return not self.started or all(engine.alive for engine in self._fleet.engines)

    @property
    def ready(self) -> bool:
        return self.started and not self.draining and self.live

    @property
    def idle(self) -> bool:
        return all(engine.idle for engine in self._fleet.engines)

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
        for engine in self._fleet.engines:
            engine.drain()
        end_s = perf_counter() + self.settings.grace_seconds
        while not self.idle and not hurry() and perf_counter() < end_s:
            await asyncio.sleep(POLL_S)
        await self.stop()

    async def stop(self) -> None:
        self.draining = True
        if self._shadow:
            await self._shadow.stop()
        for engine in self._fleet.engines:
            engine.stop()
        for engine in self._fleet.engines:
            await asyncio.to_thread(engine.join)
        self.started = False


def _find(models: Mapping[str, tuple[M, E]], name: str, kind: str) -> tuple[M, E]:
    if name not in models:
        loaded = ", ".join(models) or f"no {kind} model"
        raise ModelNotLoadedError(
            f"{shown(name)} is no {kind} model that is loaded here: this server has {loaded}",
            "model",
        )
    return models[name]
