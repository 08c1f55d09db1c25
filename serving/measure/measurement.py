"""Runs of one model, each in fresh processes -> its entry in the file."""

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import onnx
from onnx import numpy_helper

from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import Served, Task
from luminanet.errors import DataError
from serving.measure import load, process
from serving.measure.servers import served
from serving.metrics.memory import Kind, ModelMemory
from serving.models.load import ImageModel, TextModel
from serving.models.load import load as load_models


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: `sequences` at once, rising, `runs` times each; how the server computes."""

    sequences: Sequence[int]
    runs: int
    seed: int
    threads: int
    precision: Served
    steps: int


def measure(directory: Path, plan: Plan, say: Callable[[str], None]) -> ModelMemory:
    """All runs of the artifact in `directory`. Raises ArtifactError, DataError or ConfigError."""
    model = load_models(directory, plan.threads, plan.precision, plan.steps).all[0]
    manifest, names = model.manifest, tuple(model.graphs)
    runs = []
    for number in range(plan.runs):
        say(f"{manifest.name}: run {number + 1} of {plan.runs}")
        runs.append({n: _under_load(directory, model, n, plan) for n in plan.sequences})
    return ModelMemory(
        model=manifest.family.value,
        backend=model.backend.name,
        task=manifest.task.value,
        name=manifest.name,
        graphs=model.fingerprint,
        weights_bytes=weights_bytes(map(Artifact.open(directory).read, names)),
        session_bytes=[sessions_bytes(directory, names, plan.threads) for _ in range(plan.runs)],
        state_bytes=[slope({n: kinds["uss"] for n, kinds in run.items()}) for run in runs]
        if manifest.task is Task.GENERATION and len(plan.sequences) > 1
        else [],
        load={n: {kind: [run[n][kind] for run in runs] for kind in runs[0][n]} for n in runs[0]},
    )


def weights_bytes(graphs: Iterable[bytes]) -> int:
    """Bytes of all initializers and constants of these graphs, also of those within them (a body
    of a loop): what two graphs share counts twice."""
    models = map(onnx.load_model_from_string, graphs)
    return sum(numpy_helper.to_array(t).nbytes for model in models for t in _tensors(model.graph))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for attribute in (one for node in graph.node for one in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("g"):
            yield from _tensors(attribute.g)


def slope(uss_by_sequences: Mapping[int, int]) -> int:
    """Bytes that a sequence adds, between the fewest and the most."""
    fewest, most = min(uss_by_sequences), max(uss_by_sequences)
    return round((uss_by_sequences[most] - uss_by_sequences[fewest]) / (most - fewest))


def _under_load(
    directory: Path, model: ImageModel | TextModel, sequences: int, plan: Plan
) -> dict[Kind, int]:
    """A server with this model alone, asked by so many clients at once. `uss` is the median while
    they are answered, `peak_uss` the most from the start of the process on."""
    manifest = model.manifest
    clients = load.requests(manifest.task, manifest.family, sequences, plan.seed)
    flags = {
        "--artifacts": directory,
        "--max-batch": sequences,
        "--queue-limit": sequences,
        "--threads": plan.threads,
        "--precision": plan.precision,
        "--steps": plan.steps,
    }
    with served([word for flag in flags.items() for word in map(str, flag)]) as running:
        pid = running.pid
        with process.sampled(pid) as samples:
            url = running.url
            begun_s = perf_counter()
            asyncio.run(load.run(url, clients))
            found: dict[Kind, int] = {"peak_rss": process.peak_rss(pid)}
            if (on_gpu := process.gpu_bytes(pid)) is not None:
                found["gpu"] = on_gpu
            during = [*samples.since(begun_s), process.uss(pid)]
        return {
            "uss": round(statistics.median(during)),
            "peak_uss": max(samples.peak, *during),
            **found,
        }


def sessions_bytes(directory: Path, graphs: Sequence[str], threads: int) -> int:
    command = [sys.executable, "-m", "serving.measure.sessions", str(directory), str(threads)]
    done = subprocess.run([*command, *graphs], capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"sessions could not be created: {done.stderr.strip()[-300:]}")
    return int(done.stdout)
