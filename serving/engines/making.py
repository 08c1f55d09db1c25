"""A model -> its engine, tried and warm, and what is told of it. Raises ArtifactError when the
network fails its first runs, which happen here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from luminanet.artifact.manifest import Manifest
from luminanet.errors import ArtifactError
from luminanet.untrusted import line
from serving.engines import selftest
from serving.engines.engine import Engine
from serving.engines.images import ImageBatch, ImageEngine
from serving.engines.opened import Opened
from serving.engines.sequences import GROUPS, Caches, Sequences, Windows, rows_agree, warm_up
from serving.engines.text import TextEngine
from serving.metrics.families import EngineMetrics, Labels, Metrics, TextMetrics
from serving.metrics.loaded import Loaded, Text
from serving.models.interface import state_bytes
from serving.models.load import ImageModel, TextModel
from serving.models.memory import allowance, ceiling
from serving.pictures.pixels import claimed_pixels, read_image
from serving.settings import Settings

FEWEST_TRIED = 16
"""Rows with which it is tried what a row does in batches of other sizes, at least."""
NO_MEMORY = "Failed to allocate memory"
"""What onnxruntime says, in an exception of no class of its own."""


def text_engine(
    model: TextModel, called: str, settings: Settings, metrics: Metrics
) -> tuple[TextEngine, Loaded]:
    """`called`: what requests and metrics call the model."""
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
    labels = labels_of(model, called)
    told = TextMetrics(metrics, labels)
    opened = Opened(_rows(model, size, sequences.group, opened=True), manifest.context)
    limits = settings.queue_limit, told, settings.queue_seconds
    engine = TextEngine(called, sequences, opened, manifest.end_id, size, *limits)
    state, steps = sequences.bytes_per_sequence, model.how.steps
    return engine, _loaded(model, labels, engine, settings, ratios, Text(state, steps))


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


def image_engine(
    model: ImageModel, called: str, settings: Settings, metrics: Metrics
) -> tuple[ImageEngine, Loaded]:
    """`called`: what requests and metrics call the model."""
    with _first_runs(model.manifest, settings):
        ratios = selftest.try_image(model)
    selftest.refuse(model.manifest, ratios)
    with _first_runs(model.manifest, settings):
        batch = ImageBatch(model.backend, model.manifest, settings.max_batch)
        batch.warm_up()
    labels = labels_of(model, called)
    engine = ImageEngine(
        called,
        batch,
        partial(claimed_pixels, max_pixels=settings.max_image_pixels),
        partial(read_image, max_pixels=settings.max_image_pixels),
        settings.max_batch,
        settings.compute_threads,
        settings.queue_limit,
        settings.queue_pixels,
        EngineMetrics(metrics, labels),
        settings.queue_seconds,
    )
    return engine, _loaded(model, labels, engine, settings, ratios)


def labels_of(model: ImageModel | TextModel, called: str) -> Labels:
    return called, model.backend.name, model.manifest.task.value


def _loaded(
    model: ImageModel | TextModel,
    labels: Labels,
    engine: Engine[Any],
    settings: Settings,
    ratios: Mapping[str, float],
    text: Text | None = None,
) -> Loaded:
    manifest = model.manifest
    info = {
        "name": manifest.name,
        "precision": model.precision,
        "parameters": str(manifest.parameters),
        "macs": str(manifest.macs),
        "context": str(manifest.context),
    }
    limits = settings.max_batch, settings.queue_limit
    return Loaded(labels, info, *limits, ratios, engine.running, engine.waiting, text)


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
