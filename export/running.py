"""onnxruntime on the CPU, for what precisions measure: ranges and accuracy, not speed."""

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from luminanet.errors import ExportError, MissingExtraError


class Session:
    """A graph that can be run; its inputs and outputs are named arrays."""

    def __init__(self, model: onnx.ModelProto) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "cpu") from error
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no common base of its errors
            raise _refused(error) from error
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Raises ExportError when a feed does not fit the graph."""
        try:
            found = self._session.run(self.outputs, dict(feeds))
        except Exception as error:
            raise _refused(error) from error
        return dict(zip(self.outputs, found, strict=True))


def _refused(error: Exception) -> ExportError:
    return ExportError(
        f"onnxruntime cannot run the graph in this precision: {str(error).splitlines()[0]}; "
        "install the version that pyproject.toml asks for, or freeze with another precision"
    )
