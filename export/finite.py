"""Weights that are numbers, all of them: asked before a graph is made."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import CheckpointError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net


def check_finite(net: FrozenNet | Gpt2Net, where: Path | str) -> None:
    """Raises CheckpointError that names the first tensor with NaN or infinities; `where` is the
    file that the network is from."""
    for name, array in _arrays(net):
        if not np.isfinite(array).all():
            what = "NaN" if np.isnan(array).any() else "infinities"
            raise CheckpointError(
                f"{where}: {name} holds {what}: training diverged, or its numbers are larger than "
                "float32; freeze an earlier checkpoint"
            )


def _arrays(net: FrozenNet | Gpt2Net) -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(net, Gpt2Net):
        yield from net.tensors.items()
        return
    for number, weights in net.clusters.items():
        yield from _fields(f"cluster {number}", weights)
    yield from _fields("the head", net.head)
    for connection, gate in net.gates.items():
        yield f"the gate of {connection.source} to {connection.target}", np.array(gate)


def _fields(owner: str, weights: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    for field in fields(weights):
        if (array := getattr(weights, field.name)) is not None:
            yield f"{field.name} of {owner}", array
