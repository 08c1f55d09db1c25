"""The same narrow door to a GPU: a TensorRT plan behind backend.py's Backend.

Every bound computation owns device buffers and an execution context of one batch size, copies its
arrays in, replays a CUDA graph (recorded in its first call, after one plain run) and copies the
results out. All of them work on one stream, one after another, and so share one workspace. What
CUDA made for a computation is freed with it; it keeps the runtime that it came from.

Checked by types and on the CPU as far as a machine without a GPU can; the tests of what it
computes run where there is one (tests/serving/runtimes/test_tensorrt_gpu.py).
"""

import importlib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from luminanet.artifact.directory import Artifact
from luminanet.artifact.gpu import find_gpu
from luminanet.artifact.tensorrt_plan import (
    PLAN,
    PlanInfo,
    Profile,
    check_machine,
    installed_version,
    open_plan,
    read_plan,
)
from luminanet.errors import ArtifactError, DeviceError
from luminanet.interface import Arrays, Tensor
from serving.runtimes.backend import Step
from serving.runtimes.cuda import Cuda, Owned

DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


def load_plan(artifact: Artifact, name: str = PLAN) -> "PlanRuntime":
    """The plan beside a graph of an artifact, ready to bind.

    Raises ArtifactError unless the plan is whole, was built from the artifact's graph and fits
    this machine; nothing of it reaches TensorRT before.
    """
    path = artifact.directory / name
    info = open_plan(path)
    check_machine(info, find_gpu(), installed_version(info.module), str(path))
    graph = (artifact.manifest.files or {}).get(info.model)
    if graph is None:
        raise ArtifactError(f"{path} was built from {info.model}, which the artifact has not")
    return PlanRuntime(read_plan(path, info, graph.sha256), info, str(path))


class PlanRuntime:
    """One engine on the first GPU, one stream, one workspace."""

    name = "tensorrt"

    def __init__(self, plan: bytes, info: PlanInfo, where: str) -> None:
        self._trt: Any = importlib.import_module(info.module)
        self.cuda = Cuda()
        self._profiles = info.profiles
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ArtifactError(
                f"{where}: {info.module} refuses the plan: update the GPU's driver, or rebuild the "
                "plan with `python -m export.build_engine`"
            )
        self.stream = self.cuda.owned("cudaStreamCreate", free="cudaStreamDestroy")
        self._workspace_bytes = self._engine.device_memory_size_v2
        self._workspace = self.cuda.memory(self._workspace_bytes)
        tensors = {mode: tuple(self._tensors(mode)) for mode in ("INPUT", "OUTPUT")}
        self.inputs, self.outputs = tensors["INPUT"], tensors["OUTPUT"]

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        """As Backend.bind. Raises ArtifactError when no profile takes the batch, DeviceError when
        the GPU has not enough memory.

        A plan keeps nothing in place: an array that is input and output is copied both ways.
        """
        batch = next(iter(inputs.values())).shape[0]
        profile = choose(self._profiles, batch)
        context = self._context(profile)
        for name, array in inputs.items():
            if not context.set_input_shape(name, array.shape):
                raise ArtifactError(f"the plan does not take {name} {list(array.shape)}")
        return _Bound(self, context, inputs, outputs)

    def _context(self, profile: int) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        kernels = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kernels is None:
            context = self._engine.create_execution_context(strategy)
        else:  # tensorrt_rtx compiles kernels for a shape; a CUDA graph would keep the first, slow
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
            context = self._engine.create_execution_context(config)
        if context is None or not context.set_optimization_profile_async(profile, int(self.stream)):
            raise DeviceError("TensorRT could not prepare the plan; its log says why")
        context.set_device_memory(int(self._workspace), self._workspace_bytes)
        return context

    def _tensors(self, mode: str) -> Iterator[Tensor]:
        for name in map(self._engine.get_tensor_name, range(self._engine.num_io_tensors)):
            if self._engine.get_tensor_mode(name).name == mode:
                kind = self._engine.get_tensor_dtype(name).name
                shape = (int(dim) for dim in self._engine.get_tensor_shape(name))
                free = tuple(None if dim < 0 else dim for dim in shape)
                yield Tensor(name, DTYPES.get(kind, kind.lower()), free)


class _Bound:
    """A computation over fixed arrays. The first call runs plainly and records the CUDA graph."""

    def __init__(self, runtime: PlanRuntime, context: Any, inputs: Arrays, outputs: Arrays) -> None:
        self._runtime = runtime  # whose stream and workspace this uses
        self._cuda, self._stream, self._context = runtime.cuda, runtime.stream.handle, context
        self._inputs = [(a, self._cuda.memory(a.nbytes)) for a in inputs.values()]
        self._outputs = [(a, self._cuda.memory(a.nbytes)) for a in outputs.values()]
        names = (*inputs, *outputs)
        for name, (array, memory) in zip(names, (*self._inputs, *self._outputs), strict=True):
            assert array.flags.c_contiguous, (
                f"{name} is strided: its bytes cannot be copied at once"
            )
            context.set_tensor_address(name, int(memory))
        self._graph: Owned | None = None

    def __call__(self) -> None:
        kinds = self._cuda.api.cudaMemcpyKind
        for array, memory in self._inputs:
            self._copy(int(memory), array.ctypes.data, array, kinds.cudaMemcpyHostToDevice)
        if self._graph is None:
            self._enqueue()
            self._graph = self._record()
        else:
            self._cuda("cudaGraphLaunch", self._graph.handle, self._stream)
        for array, memory in self._outputs:
            self._copy(array.ctypes.data, int(memory), array, kinds.cudaMemcpyDeviceToHost)
        self._cuda("cudaStreamSynchronize", self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise DeviceError("TensorRT could not run the plan; its log says why")

    def _record(self) -> Owned:
        """The computation as a CUDA graph: one launch instead of one for each kernel."""
        self._cuda("cudaStreamSynchronize", self._stream)
        mode = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda("cudaStreamBeginCapture", self._stream, mode)
        try:
            self._enqueue()
        finally:  # otherwise the stream would go on recording, whatever comes
            end = ("cudaStreamEndCapture", self._stream)
            recorded = self._cuda.owned(*end, free="cudaGraphDestroy")
        made = ("cudaGraphInstantiate", recorded.handle, 0)
        return self._cuda.owned(*made, free="cudaGraphExecDestroy")

    def _copy(self, to: int, source: int, array: NDArray[Any], kind: Any) -> None:
        self._cuda("cudaMemcpyAsync", to, source, array.nbytes, kind, self._stream)


def choose(profiles: tuple[Profile, ...], batch: int) -> int:
    """The profile made for the batch size nearest to `batch`. Raises ArtifactError if none is."""
    taking = [n for n, profile in enumerate(profiles) if profile.min <= batch <= profile.max]
    if not taking:
        made = ", ".join(map(str, profiles))
        raise ArtifactError(
            f"the plan takes batches {made} (min:opt:max) and not {batch}: rebuild it with "
            f"`python -m export.build_engine ARTIFACT --profile 1:{batch}:{batch}`"
        )
    return min(taking, key=lambda n: abs(profiles[n].opt - batch))
