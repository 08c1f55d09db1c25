"""Inputs with the right answers, on which graphs are assessed and calibrated.

A file of examples is a NumPy archive (.npz, without pickles):

    inputs       images uint8 [N, C, Y, X], or float32 in 0..1; windows of a text int64 [N, W], -1
                 before its beginning; for a GPT-2 texts int64 [N, T]
    targets      int64: the class, or the next token [N]; for a GPT-2 the token after each [N, T]
    calibration  optional, only for qdq-int8: more inputs, from other data
    text_bytes   optional: how many bytes the targets of a text spell

`python -m benchmarks.examples CHECKPOINT` writes one. Without a file, seeded random inputs check
the error of a graph, but say nothing about its task.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.checks.assess import Net
from export.checks.verify import random_images, random_windows
from luminanet import interface
from luminanet.errors import DataError
from luminanet.fields import TextInput
from luminanet.gpt2 import Gpt2Net
from luminanet.reference import NO_TOKEN

RANDOM_ROWS = 64
RANDOM_TEXTS = 4
RANDOM_TOKENS = 16
STRIDE = 8
"""Calibration of a GPT-2: its prompts grow by so many tokens."""

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Examples:
    """`feeds` are the inputs of whole graphs, and calibrate; `bytes_per_token` is of the text."""

    inputs: NDArray[Any]
    targets: NDArray[np.int64]
    feeds: Sequence[Feeds] = ()
    bytes_per_token: float = 0.0
    has_task: bool = True


def seeded(net: Net, seed: int = 0) -> Examples:
    """Random inputs; what follows them is unknown."""
    rng = np.random.default_rng(seed)
    if isinstance(net, Gpt2Net):
        tokens = min(RANDOM_TOKENS, net.config.context)
        texts = rng.integers(0, net.config.vocab_size, (RANDOM_TEXTS, tokens))
        return Examples(texts, np.zeros_like(texts), has_task=False)
    shape, answers = net.topology.input, np.zeros(RANDOM_ROWS, np.int64)
    if isinstance(shape, TextInput):
        return Examples(random_windows(shape, RANDOM_ROWS, rng), answers, has_task=False)
    return Examples(random_images(shape, RANDOM_ROWS, rng), answers, has_task=False)


def save(path: Path, net: Net, examples: Examples, calibration: NDArray[Any]) -> None:
    """Writes a file of examples; `calibration` are the inputs that `feeds` were made of."""
    arrays = {"inputs": examples.inputs, "targets": examples.targets, "calibration": calibration}
    if _is_image(net):
        arrays |= {n: np.rint(arrays[n] * 255).astype(np.uint8) for n in ("inputs", "calibration")}
    else:
        arrays["text_bytes"] = np.array(examples.bytes_per_token * examples.targets.size)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: Path, net: Net) -> Examples:
    """Raises DataError when the file is missing, damaged, or of another network."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        inputs, targets = arrays["inputs"], arrays["targets"]
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is not there: make one with `python -m benchmarks.examples CHECKPOINT`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no file of examples (an .npz with inputs and targets): {error}"
        ) from error
    inputs, targets = _inputs(inputs, "inputs", net, path), _targets(targets, inputs, net, path)
    calibration = arrays.get("calibration")
    feeds = (
        () if calibration is None else feeds_of(net, _inputs(calibration, "calibration", net, path))
    )
    spelled = arrays.get("text_bytes", np.array(0.0))
    if spelled.shape or spelled.dtype.kind not in "iuf" or not 0 <= spelled < np.inf:
        raise DataError(f"{path}: text_bytes is not a number of bytes")
    return Examples(inputs, targets, feeds, float(spelled) / targets.size)


def feeds_of(net: Net, inputs: NDArray[Any]) -> list[Feeds]:
    """Inputs of whole graphs; a GPT-2 sees each text as prompts of growing length."""
    graphs = interface.of(net)
    if not isinstance(graphs, interface.CacheGraphs):
        return [graphs.feeds(inputs)]
    lengths = range(min(STRIDE, inputs.shape[1]), inputs.shape[1] + 1, STRIDE)
    return [graphs.feeds(inputs[:, :length]) for length in lengths]


def _is_image(net: Net) -> bool:
    return not (isinstance(net, Gpt2Net) or isinstance(net.topology.input, TextInput))


def _inputs(array: NDArray[Any], name: str, net: Net, path: Path) -> NDArray[Any]:
    expected, lowest, highest = _expected(net)
    if _is_image(net) and array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    dtype = np.dtype(np.float32 if _is_image(net) else np.int64)
    fits = array.ndim == len(expected) + 1 and all(
        size is None or size == found for size, found in zip(expected, array.shape[1:], strict=True)
    )
    if array.dtype != dtype or not fits or not array.size:
        sizes = ", ".join("any" if size is None else str(size) for size in expected)
        raise DataError(
            f"{path}: {name} are {array.dtype} {list(array.shape)}, and this network reads {dtype} "
            f"[examples, {sizes}]: write them for this checkpoint"
        )
    if not (lowest <= array.min() and array.max() <= highest):
        raise DataError(f"{path}: {name} are not all in {lowest}..{highest}")
    if isinstance(net, Gpt2Net) and array.shape[1] > net.config.context:
        raise DataError(
            f"{path}: {name} are texts of {array.shape[1]} tokens, and this GPT-2 reads "
            f"{net.config.context}: write them for this checkpoint"
        )
    return np.ascontiguousarray(array)


def _expected(net: Net) -> tuple[tuple[int | None, ...], int, int]:
    """Sizes of one input, and the least and largest number in it."""
    if isinstance(net, Gpt2Net):
        return (None,), 0, net.config.vocab_size - 1
    shape = net.topology.input
    if isinstance(shape, TextInput):
        return (shape.window,), NO_TOKEN, shape.vocab_size - 1
    return (shape.channels, shape.height, shape.width), 0, 1


def _targets(
    targets: NDArray[Any], inputs: NDArray[Any], net: Net, path: Path
) -> NDArray[np.int64]:
    if isinstance(net, Gpt2Net):
        sizes, count = inputs.shape, net.config.vocab_size
    else:
        shape = net.topology.input
        sizes = inputs.shape[:1]
        count = shape.vocab_size if isinstance(shape, TextInput) else net.topology.outputs
    if targets.dtype != np.int64 or targets.shape != sizes:
        raise DataError(
            f"{path}: targets are {targets.dtype} {list(targets.shape)}, not int64 {list(sizes)}"
        )
    if not 0 <= targets.min() <= targets.max() < count:
        raise DataError(f"{path}: targets are not all in 0..{count - 1}")
    return targets
