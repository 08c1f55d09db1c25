"""Weights that are numbers, all of them: asked of what comes from a file, before it is used."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import CheckpointError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net

Named = tuple[str, NDArray[Any]]


def check_finite(named: Iterable[Named], where: Path | str) -> None:
    """Raises CheckpointError that names the first array with NaN or infinities; `where` is the file
    that they are from."""
    for name, array in named:
        if not np.isfinite(array).all():
            what = "NaN" if np.isnan(array).any() else "infinities"
            raise CheckpointError(
                f"{where}: {name} holds {what}: training diverged, or its numbers are larger than "
                "float32; freeze an earlier checkpoint, or train again with a lower --learning-rate"
            )


def weights(net: FrozenNet | Gpt2Net) -> Iterator[Named]:
    """All weights of a network, each with a name for people."""
    if isinstance(net, Gpt2Net):
        yield from net.tensors.items()
        return
    for number, cluster in net.clusters.items():
        yield from _fields(f"cluster {number}", cluster)
    yield from _fields("the head", net.head)
    for connection, gate in net.gates.items():
        yield f"the gate of {connection.source} to {connection.target}", np.array(gate)


def _fields(owner: str, held: Any) -> Iterator[Named]:
    for field in fields(held):
        if (array := getattr(held, field.name)) is not None:
            yield f"{field.name} of {owner}", array
