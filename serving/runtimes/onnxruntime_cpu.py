"""onnxruntime on the CPU, as a Backend."""

import ctypes
from typing import Any

from numpy.typing import NDArray

from luminanet.errors import ArtifactError, MissingExtraError
from luminanet.interface import Arrays, Tensor
from luminanet.untrusted import line
from serving.runtimes.backend import Step


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
        self._session._model_bytes = None  # which it keeps, for other providers than these
        give_back_freed()
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


def give_back_freed() -> None:
    """Returns to the system what parsing and optimising took and freed: glibc keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _tensor(node: Any) -> Tensor:
    names = {"float": "float32", "double": "float64"}
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(dim if isinstance(dim, int) else None for dim in node.shape)
    return Tensor(node.name, names.get(dtype, dtype), shape)
