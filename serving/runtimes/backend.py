"""The one narrow door to an inference runtime: graph bytes in, bound computations out.

A backend tells its inputs and outputs and binds arrays to them; a bound computation is called
without arguments and reads and writes those arrays in place. Another runtime is another class with
`name`, `inputs`, `outputs` and `bind`. ByBatch is several of them that share the batch sizes.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from luminanet.interface import Arrays, Tensor

Step = Callable[[], None]


class Backend(Protocol):
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        """A computation over these very arrays: C-contiguous, and one may be in both."""


class ByBatch:
    """Graphs of one network and interface; each computes the batches from its smallest one on."""

    def __init__(self, backends: Mapping[int, Backend]) -> None:
        """`backends`: smallest batch -> backend."""
        self._from = sorted(backends.items())
        first = self._from[0][1]
        self.name, self.inputs, self.outputs = first.name, first.inputs, first.outputs

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        batch = len(next(iter(outputs.values())))
        fitting = [backend for least, backend in self._from if least <= batch]
        return (fitting[-1] if fitting else self._from[0][1]).bind(inputs, outputs)
