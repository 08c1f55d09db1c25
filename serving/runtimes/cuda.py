"""The CUDA runtime as tensorrt_gpu.py needs it: errors as exceptions, and nothing that has to be
freed by hand."""

import importlib
from typing import Any

from luminanet.errors import DeviceError, MissingExtraError


class Cuda:
    """The CUDA runtime by the names of its functions; an error status becomes an exception."""

    def __init__(self) -> None:
        try:
            self.api: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise MissingExtraError("cuda-python", "gpu") from error

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Raises DeviceError, with the name that CUDA gives the error."""
        try:
            status, *results = getattr(self.api, function)(*arguments)
        except RuntimeError as error:  # the bindings found no driver, or one that lacks it
            raise _refused(function, " ".join(str(error).split())) from error
        if int(status):
            raise _refused(function, status.name)
        return results[0] if results else None

    def owned(self, function: str, *arguments: Any, free: str) -> "Owned":
        """What a function makes; `free` is the function that gives it back."""
        return Owned(self(function, *arguments), getattr(self.api, free))

    def memory(self, size: int) -> "Owned":
        """A block on the GPU; its handle is its address."""
        return self.owned("cudaMalloc", max(int(size), 1), free="cudaFree")


class Owned:
    """Something of CUDA's (memory, a stream, a graph) that is freed with this object."""

    def __init__(self, handle: Any, free: Any) -> None:
        self.handle, self._free = handle, free

    def __int__(self) -> int:
        return int(self.handle)

    def __del__(self) -> None:
        self._free(self.handle)


def _refused(function: str, reason: str) -> DeviceError:
    return DeviceError(
        f"the GPU refuses {function} ({reason}): see with nvidia-smi that its driver is new enough "
        "and that it has memory left, or serve on the CPU"
    )
