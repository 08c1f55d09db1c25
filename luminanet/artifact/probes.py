"""Probes: a few inputs of a network and what the numpy reference answers to them.

An artifact carries them (probes.json), so that it can prove itself where it is run: other CPUs,
other versions of onnxruntime and damaged files compute other things, and none of them says so. The
distance of a graph is told as a share of its bound: above 1 it must not be served.

A graph that gives logits answers the inputs. One that draws tokens goes on greedily: the
log-probability of its first token is known whatever it is, those after it as long as its text is
that of the reference. Shape legend: N probes, C channels, Y rows, X columns, T tokens, V classes or
vocabulary, K tokens drawn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import PROBES, Family, GraphEntry, Manifest, Precision, Role, Task
from luminanet.errors import ArtifactError
from luminanet.reference import NO_TOKEN
from luminanet.untrusted import line, mapping, parse

MAX_BYTES = 1 << 26
MAX_PROBES = 64
MAX_DRAWN = 64
KEYS = {"inputs", "logits", "drawn", "log_probabilities"}
DIGITS = 6
"""Decimals of what is written: so that the last bits of another machine do not show."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probes:
    """`inputs`: pixels uint8 [N, C, Y, X], or token ids int64 [N, T] without gaps (of a LuminaNet
    all of its window, NO_TOKEN before the beginning). `logits` [N, V] after the last of them; of
    text, `drawn` [N, K] is how it goes on, with `log_probabilities` [N, K] in nats."""

    inputs: NDArray[Any]
    logits: Array
    drawn: NDArray[np.int64]
    log_probabilities: Array

    @property
    def images(self) -> NDArray[np.float32]:
        """The pixels as a network takes them, in 0..1."""
        return self.inputs.astype(np.float32) / np.float32(255)

    def part(self, count: int) -> "Probes":
        """The first of them."""
        inputs, logits, drawn = self.inputs[:count], self.logits[:count], self.drawn[:count]
        return Probes(inputs, logits, drawn, self.log_probabilities[:count])

    def to_json(self) -> str:
        numbers = {
            "inputs": self.inputs.tolist(),
            "logits": _rounded(self.logits),
            "drawn": self.drawn.tolist(),
            "log_probabilities": _rounded(self.log_probabilities),
        }
        return json.dumps(numbers, separators=(",", ":")) + "\n"


def read(artifact: Artifact) -> Probes:
    """The probes of an artifact. Raises ArtifactError when they are missing or damaged."""
    where = artifact.directory / PROBES
    entry = (artifact.manifest.files or {}).get(PROBES)
    if entry and entry.bytes > MAX_BYTES:
        raise ArtifactError(f"{where} is larger than {MAX_BYTES} bytes")
    text = artifact.read(PROBES).decode("utf-8", errors="replace")
    return from_json(text, artifact.manifest, str(where))


def from_json(text: str, manifest: Manifest, where: str) -> Probes:
    """Raises ArtifactError unless they are probes of a network of this manifest."""
    try:
        raw = mapping(parse(text), "probes")
        if set(raw) != KEYS:
            raise ValueError(f"it has {sorted(raw)}, not {sorted(KEYS)}")
        is_text = manifest.task is Task.GENERATION
        most = manifest.vocab_size - 1 if is_text else 255
        inputs = _whole(raw["inputs"], "inputs", NO_TOKEN if is_text else 0, most)
        logits = _numbers(raw["logits"], "logits")
        drawn = _whole(raw["drawn"], "drawn", 0, max(most, 0))
        logs = _numbers(raw["log_probabilities"], "log_probabilities")
        count = len(inputs)
        _check(0 < count <= MAX_PROBES, f"it has {count} probes")
        width = manifest.vocab_size if is_text else len(manifest.labels)
        _check(logits.shape == (count, width), f"logits are {list(logits.shape)}")
        _check(_fits(inputs, manifest), f"inputs are {list(inputs.shape)}")
        _check(drawn.shape == logs.shape, "drawn and log_probabilities differ in shape")
        steps = drawn.shape[1] if drawn.ndim == 2 and len(drawn) == count else 0
        _check(0 < steps <= MAX_DRAWN if is_text else steps == 0, f"drawn are {list(drawn.shape)}")
        return Probes(inputs if is_text else inputs.astype(np.uint8), logits, drawn, logs)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ArtifactError(
            f"{where} is damaged ({line(error)}): freeze the checkpoint again"
        ) from error


def largest(found: NDArray[Any], expected: Array) -> float:
    """Largest |difference| over the largest |expected| (1 at least)."""
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))


def typical(found: NDArray[Any], expected: Array) -> float:
    """Root mean square of the differences over that of what is expected."""
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def logits_ratio(probes: Probes, entry: GraphEntry, logits_NV: NDArray[Any]) -> float:
    """Distance of a graph's logits from the reference, as a share of its bound."""
    if logits_NV.shape != probes.logits.shape or not np.isfinite(logits_NV).all():
        return float("inf")
    measure = largest if entry.precision is Precision.FP32 else typical
    return measure(logits_NV.astype(np.float64), probes.logits) / entry.verified_within


def drawn_ratio(
    probes: Probes,
    manifest: Manifest,
    entry: GraphEntry,
    ids_NK: NDArray[np.int64],
    logs_NK: NDArray[Any],
) -> float:
    """The same for tokens drawn greedily and their log-probabilities.

    Each is the difference of two numbers that are as far off as a logit may be, and so is how much
    less likely the first token is than the likeliest one. The bound is twice that of the logits in
    this precision, and what the manifest allows the sampler.
    """
    plain = next(
        e
        for e in manifest.graphs.values()
        if e.role is Role.LOGITS and e.precision is entry.precision
    )
    bound = 2 * plain.verified_within + entry.verified_within
    errors, missed = [], []
    for row, logits_V in enumerate(probes.logits):
        known_V = logits_V - _log_sum(logits_V)
        first = int(ids_NK[row, 0])
        if not 0 <= first < len(known_V):
            return float("inf")
        missed.append(known_V.max() - known_V[first])
        errors.append(logs_NK[row, 0] - known_V[first])
        for at in range(1, min(ids_NK.shape[1], probes.drawn.shape[1])):
            if not np.array_equal(ids_NK[row, : at + 1], probes.drawn[row, : at + 1]):
                break
            errors.append(logs_NK[row, at] - probes.log_probabilities[row, at])
    off, lost = np.asarray(errors, np.float64), float(np.max(missed))
    if not np.isfinite(off).all():
        return float("inf")
    if entry.precision is Precision.FP32:
        apart, scale = float(np.abs(off).max()), max(1.0, float(np.abs(probes.logits).max()))
    else:
        apart = float(np.sqrt(np.mean(off**2)))
        scale = float(np.sqrt(np.mean(probes.logits**2)))
    return max(apart, lost) / scale / bound


def _log_sum(logits_V: Array) -> float:
    highest = float(logits_V.max())
    return highest + float(np.log(np.exp(logits_V - highest).sum()))


def _rounded(array: Array) -> list[Any]:
    return (np.round(array, DIGITS) + 0.0).tolist()  # type: ignore[no-any-return]  # no -0.0


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _fits(inputs: NDArray[Any], manifest: Manifest) -> bool:
    if manifest.task is Task.CLASSIFICATION:
        return inputs.ndim == 4
    if manifest.family is Family.LUMINANET:
        return inputs.shape[1:] == (manifest.context,)
    return inputs.ndim == 2 and 0 < inputs.shape[1] <= manifest.context and inputs.min() >= 0


def _whole(raw: Any, name: str, least: int, most: int) -> NDArray[np.int64]:
    array = np.array(raw if isinstance(raw, Sequence) else None)
    if array.size and (array.dtype.kind != "i" or array.min() < least or array.max() > most):
        raise ValueError(f"{name} are not whole numbers of {least} to {most}")
    return array.astype(np.int64)


def _numbers(raw: Any, name: str) -> Array:
    array = np.array(raw if isinstance(raw, Sequence) else None)
    if array.size and (array.dtype.kind not in "if" or not np.isfinite(array).all()):
        raise ValueError(f"{name} are not numbers")
    return array.astype(np.float64)
