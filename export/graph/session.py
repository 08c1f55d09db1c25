"""onnxruntime on the CPU: to check graphs, to measure their accuracy and ranges, and (timing.py, on
one thread) which of them is faster."""

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from luminanet.errors import DeviceError, ExportError, LuminaNetError, MissingExtraError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Session:
    """A graph that can be run; its inputs and outputs are named arrays.

    What onnxruntime refuses, the graph or a feed, raises `error`; `remedy` says what to do.
    `threads` are 0 for all cores. `provider` is onnxruntime's name of what computes: nothing else
    takes over where it is not there.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        error: type[LuminaNetError] = ExportError,
        what: str = "the graph in this precision",
        remedy: str = "freeze with another precision",
        threads: int = 0,
        provider: str = CPU,
    ) -> None:
        try:
            import onnxruntime as ort
        except ImportError as missing:
            raise MissingExtraError("onnxruntime", "cpu") from missing
        self._error, self._what, self._remedy = error, what, remedy
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        # Pairs of quantisation are for TensorRT, and computed as they are written: fused, their
        # products would saturate on CPUs without VNNI.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if provider != CPU:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            if provider not in ort.get_available_providers():
                raise DeviceError(
                    f"onnxruntime has no {provider} here: install 'luminanet[gpu]' on a machine "
                    "with a GPU, or check on the CPU"
                )
        try:
            self._session = ort.InferenceSession(
                model.SerializeToString(), options, providers=[provider]
            )
        except Exception as reason:  # onnxruntime has no common base of its errors
            raise self._refused(reason) from reason
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            found = self._session.run(self.outputs, dict(feeds))
        except Exception as reason:
            raise self._refused(reason) from reason
        return dict(zip(self.outputs, found, strict=True))

    def _refused(self, reason: Exception) -> LuminaNetError:
        return self._error(
            f"onnxruntime cannot run {self._what}: {str(reason).splitlines()[0]}; install the "
            f"version that pyproject.toml asks for, or {self._remedy}"
        )
