"""The one narrow door to an inference runtime: graph bytes in, bound computations out.

A backend tells its inputs and outputs and binds arrays to them; a bound computation is called
without arguments and reads and writes those arrays in place. Another runtime (CUDA, TensorRT)
is another class with `name`, `inputs`, `outputs` and `bind`. ByBatch is several of them that share
the batch sizes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from luminanet.errors import ArtifactError, MissingExtraError
from luminanet.untrusted import line

Arrays = Mapping[str, NDArray[Any]]
Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph; a dimension that is None is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} {self.dtype}[{dims}]"


class Backend(Protocol):
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        """A computation over these very arrays: C-contiguous, and one may be in both."""


class OrtCpu:
    """onnxruntime on the CPU. Thread counts are explicit; idle threads do not spin, because the
    engines of all models and the event loop share the cores."""

    name = "ort_cpu"

    def __init__(self, graph: bytes, threads: int, where: str) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "cpu") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its errors come as exceptions
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class per status code, without a base
            raise ArtifactError(
                f"{where}: onnxruntime refuses the graph: {line(error, 300)}"
            ) from error
        self._value = ort.OrtValue.ortvalue_from_numpy
        self.inputs = tuple(map(_tensor, self._session.get_inputs()))
        self.outputs = tuple(map(_tensor, self._session.get_outputs()))

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._shared(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, self._shared(array))
        run = self._session.run_with_iobinding
        return lambda: run(binding)

    def _shared(self, array: NDArray[Any]) -> Any:
        """A runtime value in the memory of `array`, which it keeps alive."""
        assert array.flags.c_contiguous, "a strided array would be copied, not shared"
        return self._value(array)


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


def _tensor(node: Any) -> Tensor:
    names = {"float": "float32", "double": "float64"}
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(dim if isinstance(dim, int) else None for dim in node.shape)
    return Tensor(node.name, names.get(dtype, dtype), shape)
