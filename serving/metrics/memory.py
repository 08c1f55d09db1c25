"""Memory as `python -m serving.measure` found it: its file, and the gauges that a server makes of
it. Nothing here is computed from shapes; a file about other graphs than are served is not told.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Gauge, Info

from luminanet.errors import DataError
from serving.metrics.families import MODEL, Labels

log = logging.getLogger("luminanet.memory")

FORMAT = 1
AGAIN = "measure again with `python -m serving.measure`"

Kind = Literal["uss", "peak_uss", "peak_rss", "gpu"]
Runs = Sequence[int]
"""Bytes, a run each."""


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What one model takes, in a process of its own. `graphs` is the fingerprint of its files."""

    model: str
    backend: str
    task: str
    name: str
    graphs: str
    weights_bytes: int
    """Of the initializers of the graphs that are served."""
    session_bytes: Runs
    """USS that creating the sessions added."""
    state_bytes: Runs
    """USS that one sequence more takes: the slope from the fewest sequences to the most."""
    load: Mapping[int, Mapping[Kind, Runs]]
    """Sequences at once -> kind -> bytes."""

    @property
    def labels(self) -> Labels:
        return self.model, self.backend, self.task


@dataclass(frozen=True, slots=True)
class Measurement:
    """One file. `date` is ISO 8601 with its zone."""

    date: str
    machine: str
    versions: Mapping[str, str]
    seed: int
    command: str
    models: Sequence[ModelMemory]
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def read(path: Path) -> Measurement:
    """Raises DataError when the file is none of ours or damaged, and FileNotFoundError."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise DataError(f"{path} has format {content['format']}, not {FORMAT}: {AGAIN}")
        models = [_model(entry) for entry in content.pop("models")]
        found = Measurement(**content, models=models)
        datetime.fromisoformat(found.date)
        return found
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is no measurement of memory ({reason}): {AGAIN}") from error


def _model(entry: dict[str, Any]) -> ModelMemory:
    load = {
        int(sequences): {kind: [int(b) for b in runs] for kind, runs in kinds.items()}
        for sequences, kinds in entry.pop("load").items()
    }
    return ModelMemory(**entry, load=load)


class MemoryGauges:
    """The families of a measurement; without `tell` they have no series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._parts = Gauge(
            "luminanet_model_memory_bytes",
            "Measured: weights (initializers as served), session (what creating the sessions "
            "added), state (what one sequence more takes)",
            (*MODEL, "kind"),
            registry=registry,
        )
        self._load = Gauge(
            "luminanet_load_memory_bytes",
            "Measured of a server with this model alone under so many sequences at once: uss, "
            "peak_uss, peak_rss, gpu; the median of runs",
            (*MODEL, "kind", "sequences"),
            registry=registry,
        )
        self._date = Gauge(
            "luminanet_memory_measured_timestamp_seconds",
            "When the memory of this model was measured",
            MODEL,
            registry=registry,
        )
        self._about = Info(
            "luminanet_memory_measurement",
            "Where memory was measured, and with what",
            ("machine", "versions"),
            registry=registry,
        )

    def tell_file(self, path: Path, served: Mapping[Labels, str]) -> None:
        """What a file says of the models that are `served` (labels -> fingerprint), and nothing
        that was told before. A file that is not there says nothing; one that cannot be read, or is
        about other graphs, is logged."""
        for family in (self._parts, self._load, self._date, self._about):
            family.clear()
        try:
            found = read(path)
        except FileNotFoundError:
            return
        except DataError as error:
            log.warning("%s", error)
            return
        measured = {(model.graphs, model.backend): model for model in found.models}
        known = {labels: measured.get((graphs, labels[1])) for labels, graphs in served.items()}
        fitting = {labels: model for labels, model in known.items() if model}
        for model in found.models:
            if model.labels in served and model not in fitting.values():
                log.warning("%s is about other graphs of %s: %s", path, model.name, AGAIN)
        for labels, model in fitting.items():
            self._tell(labels, model, found.date)
        if fitting:
            versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
            self._about.labels(found.machine, versions).info({})

    def _tell(self, labels: Labels, model: ModelMemory, date: str) -> None:
        self._date.labels(*labels).set(datetime.fromisoformat(date).timestamp())
        self._parts.labels(*labels, "weights").set(model.weights_bytes)
        for kind, runs in ("session", model.session_bytes), ("state", model.state_bytes):
            if runs:
                self._parts.labels(*labels, kind).set(median(runs))
        for sequences, kinds in model.load.items():
            for kind, runs in kinds.items():
                self._load.labels(*labels, kind, str(sequences)).set(median(runs))
