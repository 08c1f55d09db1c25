"""What the door to CUDA does when CUDA refuses, and that all it makes is given back: on a stand-in
for the driver that keeps a ledger."""

import gc
import sys
from collections.abc import Iterator
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from luminanet.artifact.tensorrt_plan import Profile
from luminanet.errors import DeviceError, MissingExtraError
from serving.runtimes.cuda import Cuda
from serving.runtimes.tensorrt_gpu import PlanRuntime

MAKERS = {
    "cudaMalloc": "cudaFree",
    "cudaStreamCreate": "cudaStreamDestroy",
    "cudaStreamEndCapture": "cudaGraphDestroy",
    "cudaGraphInstantiate": "cudaGraphExecDestroy",
}
BATCH = (2, 3)


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


class Driver(ModuleType):
    """Has every function, remembers the calls, and knows what is not freed yet."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.called: list[str] = []
        self.owned: dict[int, str] = {}
        self.refuses = ""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def function(*arguments: Any) -> tuple[Any, ...]:
            self.called.append(name)
            if name == self.refuses:
                return (Status.cudaErrorMemoryAllocation, None)
            if name in MAKERS.values():
                assert MAKERS[self.owned.pop(arguments[0])] == name
            if name in MAKERS:
                self.owned[handle := len(self.called)] = name
                return Status.cudaSuccess, handle
            return (Status.cudaSuccess,)

        return function


class Context:
    """TensorRT's execution context, of an engine that does nothing."""

    fails_from = 99

    def __init__(self) -> None:
        self.runs = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_: True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream
        self.runs += 1
        return self.runs < self.fails_from


def tensorrt() -> ModuleType:
    """A module with as much of TensorRT's interface as is used."""
    engine = SimpleNamespace(device_memory_size_v2=64, num_io_tensors=0)
    engine.get_tensor_name = str
    engine.create_execution_context = lambda _: Context()
    module: Any = ModuleType("tensorrt")
    module.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None})
    module.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine)
    module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=1)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver()
    for module in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt())
    yield made
    gc.collect()
    assert not made.owned


def runtime() -> PlanRuntime:
    info: Any = SimpleNamespace(module="tensorrt", profiles=(Profile(1, 2, 4),))
    return PlanRuntime(b"plan", info, "model.plan")


def arrays() -> dict[str, NDArray[np.float32]]:
    return {"x": np.zeros(BATCH, np.float32)}


def test_the_first_call_records_and_the_others_replay(driver: Driver) -> None:
    step = runtime().bind(arrays(), {"y": np.zeros(BATCH, np.float32)})
    for _ in range(3):
        step()
    assert driver.called.count("cudaGraphInstantiate") == 1
    assert driver.called.count("cudaGraphLaunch") == 2
    assert driver.called.count("cudaMemcpyAsync") == 6


def test_a_computation_keeps_the_stream_and_the_workspace_that_it_uses(driver: Driver) -> None:
    step = runtime().bind(arrays(), {"y": np.zeros(BATCH, np.float32)})
    gc.collect()
    assert sorted(driver.owned.values()) == ["cudaMalloc"] * 3 + ["cudaStreamCreate"]
    step()
    assert sorted(driver.owned.values()) == [
        *("cudaGraphInstantiate", *["cudaMalloc"] * 3, "cudaStreamCreate")
    ]
    del step
    gc.collect()
    assert not driver.owned


def test_a_recording_that_fails_is_ended(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "fails_from", 2)
    step = runtime().bind(arrays(), {"y": np.zeros(BATCH, np.float32)})
    with pytest.raises(DeviceError, match="could not run the plan"):
        step()
    assert driver.called.count("cudaStreamEndCapture") == 1


@pytest.mark.parametrize("function", [*MAKERS, "cudaMemcpyAsync", "cudaStreamBeginCapture"])
def test_what_cuda_refuses_is_one_line_that_names_it(driver: Driver, function: str) -> None:
    driver.refuses = function
    with pytest.raises(DeviceError, match=rf"{function} \(cudaErrorMemoryAllocation\)") as caught:
        runtime().bind(arrays(), {"y": np.zeros(BATCH, np.float32)})()
    assert "\n" not in str(caught.value)
    caught.value.__traceback__ = None


def test_bindings_that_find_no_driver_are_one_line_too(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise RuntimeError("Failed to dlopen\nlibcuda.so.1")

    monkeypatch.setattr(driver, "cudaStreamCreate", missing, raising=False)
    with pytest.raises(DeviceError, match=r"Failed to dlopen libcuda\.so\.1"):
        Cuda()("cudaStreamCreate")


def test_missing_bindings_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(MissingExtraError, match=r"luminanet\[gpu\]"):
        Cuda()
