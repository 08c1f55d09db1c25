"""Weights as 8-bit integers and their scales: rounded with care, and safe on every CPU.

Rounding is to the floor or the ceiling of a weight, whichever keeps the sum over the inputs: plain
rounding lets a column's errors add up, and inputs that rise and fall together (pixels that lie
side by side) read that sum. It halves the error of image networks and changes little for others
(benchmarks/integers.md). It is the 0th-order case of learned rounding (Nagel et al., 2020, arXiv
2004.10568), without data.

A CPU without VNNI multiplies a byte of x with a weight, adds two neighbouring products along the
inputs in 16 bits and saturates (`vpmaddubsw`; saturation.py computes so). Nothing is cut off where
two neighbours of one sign are at most 128 together, since 255 * 128 < 2**15. So the scale of a
column is that of its largest pair, where others halve the range of every weight (7 bits).

Shape legend: that of rewrite.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
"""Integers lie in -LEVELS..LEVELS."""
LARGEST_PAIR = 128
"""Two neighbours that are 127 steps together are at most this when each is rounded up."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How weights become integers; others than the default are for comparison, or for hardware and
    look-up tables that need less care."""

    levels: int = LEVELS
    pairs: bool = True
    """Whether kernels that add pairs of products in 16 bits are exact."""
    sums: bool = True
    """Whether the sums over the inputs are kept."""


OURS = Rounding()


def blocks(
    weights_KN: NDArray[np.float32], size: int, how: Rounding = OURS
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Weights [N, G, J] as bytes around 128 and their scales [N, G], as MatMulNBits reads them; its
    kernels do not saturate. Sums are those of a block.

    A last block that is not full is filled with zeros.
    """
    inputs, outputs = weights_KN.shape
    count = -(-inputs // size)
    padded_NK = np.zeros((outputs, count * size), np.float32)
    padded_NK[:, :inputs] = weights_KN.T
    blocks_NGJ = padded_NK.reshape(outputs, count, size)
    scales_NG = _scales(np.abs(blocks_NGJ).max(-1), how.levels)
    steps_NGJ = (blocks_NGJ / scales_NG[..., None]).astype(np.float32)
    whole_NGJ = rounded(steps_NGJ, -1) if how.sums else np.rint(steps_NGJ)
    return (whole_NGJ + 128).astype(np.uint8), scales_NG


def columns(
    weights_KN: NDArray[np.float32], how: Rounding = OURS
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as integers [.., K, N], and a scale [N] for each column."""
    largest = largest_pairs(weights_KN) if how.pairs else np.abs(weights_KN)
    scales_N = _scales(largest.max(tuple(range(weights_KN.ndim - 1))), how.levels)
    steps_KN = weights_KN / scales_N
    whole_KN = rounded(steps_KN, -2) if how.sums else np.rint(steps_KN)
    whole_KN = whole_KN.clip(-how.levels, how.levels)
    assert not how.pairs or largest_pairs(whole_KN).max(initial=0) <= LARGEST_PAIR
    return whole_KN.astype(np.int8), scales_N


def largest_pairs(weights_KN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of two neighbouring inputs [.., ceil(K / 2), N]: the sum of the magnitudes where both have
    one sign, else the larger of them."""
    inputs = weights_KN.shape[-2]
    padded = np.zeros(
        (*weights_KN.shape[:-2], inputs + inputs % 2, weights_KN.shape[-1]), np.float32
    )
    padded[..., :inputs, :] = weights_KN
    first, second = padded[..., 0::2, :], padded[..., 1::2, :]
    larger = np.maximum(np.abs(first), np.abs(second))
    return np.asarray(np.maximum(np.abs(first + second), larger))


def rounded(steps: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Each number's floor or ceiling, the nearest wherever the sum along `axis` allows it: the sums
    of what comes back are within 0.5 of those of `steps`."""
    nearest = np.rint(steps)
    rest = steps - nearest
    short = np.rint(rest.sum(axis, dtype=np.float64, keepdims=True))
    rank = np.argsort(np.argsort(rest, axis, kind="stable"), axis, kind="stable")
    up = rank >= steps.shape[axis] - short
    down = rank < -short
    return np.asarray(nearest + up - down, np.float32)


def _scales(largest: NDArray[np.float32], levels: int) -> NDArray[np.float32]:
    """What an integer step is worth; 1 where all weights are zero."""
    return np.where(largest > 0, largest / levels, 1).astype(np.float32)
