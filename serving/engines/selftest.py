"""Every graph that is served, tried on the artifact's probes before the first request.

A graph that is further from the numpy reference than its bound on this machine is refused: a CPU or
a version of onnxruntime that computes something else says nothing, and neither do damaged weights
under a hash that fits them. Shape legend: N probes, V vocabulary or classes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet import interface
from luminanet.artifact import probes
from luminanet.artifact.manifest import Manifest, Precision, Role
from luminanet.artifact.probes import Probes
from luminanet.errors import ArtifactError
from luminanet.interface import LOGITS, ImageGraphs, cache_of, presents
from luminanet.machine import cpu
from luminanet.sampling import Sampling
from serving.engines.sequences import Sequences
from serving.models.load import ImageModel, TextModel
from serving.runtimes.backend import Backend

GREEDY = Sampling(temperature=0)

Ratios = Mapping[str, float]
"""File of a graph -> its distance from the reference as a share of its bound."""
RowsOf = Callable[[TextModel, int], Sequences]
"""A model and a number of rows -> sequences that its backend decodes."""


def try_image(model: ImageModel) -> Ratios:
    return {
        name: _logits_ratio(model.manifest, name, graph, model.probes)
        for name, graph in model.graphs.items()
    }


def try_text(model: TextModel, rows_of: RowsOf) -> Ratios:
    ratios = {}
    for name, graph in model.graphs.items():
        if model.manifest.graphs[name].role is Role.LOGITS:
            ratios[name] = _logits_ratio(model.manifest, name, graph, model.probes)
        else:
            sequences = rows_of(replace(model, backend=graph), len(model.probes.inputs))
            ratios[name] = _drawn_ratio(model.manifest, name, sequences, model.probes)
    return ratios


def refuse(manifest: Manifest, ratios: Ratios) -> None:
    """Raises ArtifactError when a graph is outside its bound."""
    for name, ratio in ratios.items():
        if not ratio <= 1:
            precision = manifest.graphs[name].precision
            other = ", or serve with --precision fp32" if precision is not Precision.FP32 else ""
            raise ArtifactError(
                f"{manifest.name}: {name} fails its self-test: on this machine, {cpu()}, it is "
                f"{ratio:.3g} times as far from the numpy reference as {precision} may be, so it "
                "was damaged or is computed wrongly here: freeze its checkpoint again with this "
                f"version{other}"
            )


def _logits_ratio(manifest: Manifest, name: str, backend: Backend, asked: Probes) -> float:
    return max(
        probes.logits_ratio(part, manifest.graphs[name], _logits(manifest, backend, part))
        for part in _batches(asked)
    )


def _drawn_ratio(manifest: Manifest, name: str, sequences: Sequences, asked: Probes) -> float:
    entry, found = manifest.graphs[name], []
    for part in _batches(asked):
        for row, ids_T in enumerate(part.inputs):
            sequences.join(row, ids_T[ids_T >= 0].tolist(), GREEDY)
        found.append(probes.drawn_ratio(part, manifest, entry, *sequences.draw(len(part.inputs))))
    return max(found)


def _batches(asked: Probes) -> Iterator[Probes]:
    """All together, and the first alone: kernels differ."""
    yield asked
    yield asked.part(1)


def _logits(manifest: Manifest, backend: Backend, asked: Probes) -> NDArray[np.float32]:
    logits_NV = np.zeros(asked.logits.shape, np.float32)
    graphs = interface.of(manifest)
    feeds = graphs.feeds(asked.images if isinstance(graphs, ImageGraphs) else asked.inputs)
    inputs = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    outputs: dict[str, NDArray[Any]] = {LOGITS: logits_NV, **presents(cache_of(inputs))}
    backend.bind(inputs, outputs)()
    return logits_NV
