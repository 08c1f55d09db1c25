"""The same narrow door to a GPU: a TensorRT plan behind runtime.py's Backend.

Every bound computation owns device buffers and an execution context of one batch size, copies its
arrays in, replays a CUDA graph (recorded in its first call, after one plain run) and copies the
results out. All of them work on one stream, one after another, and so share one workspace.

Checked by types and on the CPU as far as a machine without a GPU can; the tests of what it
computes run where there is one (tests/serving/test_plan.py).
"""

import importlib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from luminanet.artifact import Artifact
from luminanet.errors import ArtifactError, MissingExtraError
from luminanet.gpu import find_gpu
from luminanet.plan import (
    PLAN,
    PlanInfo,
    Profile,
    check_machine,
    installed_version,
    open_plan,
    read_plan,
)
from serving.runtime import Arrays, Step, Tensor

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
        self._cuda = Cuda()
        self._profiles = info.profiles
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ArtifactError(
                f"{where}: {info.module} refuses the plan: update the GPU's driver, or rebuild the "
                "plan with `python -m export.build_engine`"
            )
        self._stream = self._cuda("cudaStreamCreate")
        self._workspace = Memory(self._cuda, self._engine.device_memory_size_v2)
        tensors = {mode: tuple(self._tensors(mode)) for mode in ("INPUT", "OUTPUT")}
        self.inputs, self.outputs = tensors["INPUT"], tensors["OUTPUT"]

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        """As Backend.bind. Raises ArtifactError when no profile takes the batch.

        A plan keeps nothing in place: an array that is input and output is copied both ways.
        """
        batch = next(iter(inputs.values())).shape[0]
        profile = choose(self._profiles, batch)
        context = self._context(profile)
        for name, array in inputs.items():
            if not context.set_input_shape(name, array.shape):
                raise ArtifactError(f"the plan does not take {name} {list(array.shape)}")
        return _Bound(self._cuda, context, self._stream, inputs, outputs)

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
        context.set_optimization_profile_async(profile, int(self._stream))
        context.set_device_memory(self._workspace.address, self._workspace.bytes)
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

    def __init__(
        self, cuda: "Cuda", context: Any, stream: Any, inputs: Arrays, outputs: Arrays
    ) -> None:
        self._cuda, self._context, self._stream = cuda, context, stream
        self._inputs = [(a, Memory(cuda, a.nbytes)) for a in inputs.values()]
        self._outputs = [(a, Memory(cuda, a.nbytes)) for a in outputs.values()]
        names = (*inputs, *outputs)
        for name, (_, memory) in zip(names, (*self._inputs, *self._outputs), strict=True):
            context.set_tensor_address(name, memory.address)
        self._graph: Any = None

    def __call__(self) -> None:
        kinds = self._cuda.api.cudaMemcpyKind
        for array, memory in self._inputs:
            self._copy(memory.address, array.ctypes.data, array, kinds.cudaMemcpyHostToDevice)
        if self._graph is None:
            self._enqueue()
            self._graph = self._record()
        else:
            self._cuda("cudaGraphLaunch", self._graph, self._stream)
        for array, memory in self._outputs:
            self._copy(array.ctypes.data, memory.address, array, kinds.cudaMemcpyDeviceToHost)
        self._cuda("cudaStreamSynchronize", self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise RuntimeError("TensorRT could not run the plan; its log says why")

    def _record(self) -> Any:
        """The computation as a CUDA graph: one launch instead of one for each kernel."""
        self._cuda("cudaStreamSynchronize", self._stream)
        mode = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda("cudaStreamBeginCapture", self._stream, mode)
        self._enqueue()
        return self._cuda(
            "cudaGraphInstantiate", self._cuda("cudaStreamEndCapture", self._stream), 0
        )

    def _copy(self, to: int, source: int, array: NDArray[Any], kind: Any) -> None:
        self._cuda("cudaMemcpyAsync", to, source, array.nbytes, kind, self._stream)


class Cuda:
    """The CUDA runtime by the names of its functions; an error status becomes an exception."""

    def __init__(self) -> None:
        try:
            self.api: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise MissingExtraError("cuda-python", "gpu") from error

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Raises RuntimeError, with the name that CUDA gives the error."""
        status, *results = getattr(self.api, function)(*arguments)
        if int(status):
            raise RuntimeError(f"{function} failed: {status.name}")
        return results[0] if results else None


class Memory:
    """A block on the GPU, freed with this object."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self._cuda, self.bytes = cuda, max(int(size), 1)
        self.address = 0
        self.address = int(cuda("cudaMalloc", self.bytes))

    def __del__(self) -> None:
        if self.address:
            self._cuda.api.cudaFree(self.address)


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
