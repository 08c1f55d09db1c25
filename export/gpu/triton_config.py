"""What Triton is told of a graph: config.pbtxt, protobuf's text form of its model_config.proto."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from luminanet.artifact.tensorrt_plan import PlanInfo
from luminanet.errors import ConfigError, ExportError

LABELS = "labels.txt"
BATCH = "batch"
TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.BFLOAT16: "TYPE_BF16",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.UINT64: "TYPE_UINT64",
    onnx.TensorProto.BOOL: "TYPE_BOOL",
}


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """How Triton batches: largest batch, and how long a request may wait for others."""

    max_batch: int = 64
    max_queue_delay_us: int = 500

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch < 1 << 31 or self.max_queue_delay_us < 0:
            raise ConfigError("Triton needs a batch size of at least 1 and a delay of at least 0")


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph; a dimension that is text is free."""

    name: str
    kind: str
    shape: tuple[int | str, ...]


def configuration(
    name: str,
    backend: str,
    graph: onnx.GraphProto,
    options: TritonOptions,
    labels: Sequence[str] = (),
    instance: str = "count: 1 kind: KIND_AUTO",
    sizes: Mapping[str, int] | None = None,
) -> str:
    """config.pbtxt. `sizes` are free dimensions that are held fixed."""
    inputs, outputs = (
        [_fixed(port, sizes or {}) for port in map(_port, values)]
        for values in (_true_inputs(graph), graph.output)
    )
    lines = [f"name: {_quoted(name)}", f'backend: "{backend}"']
    batched = all(port.shape[:1] == (BATCH,) for port in (*inputs, *outputs))
    lines.append(f"max_batch_size: {options.max_batch if batched else 0}")
    for kind, ports in (("input", inputs), ("output", outputs)):
        lines += [line for port in ports for line in _port_lines(kind, port, batched, labels)]
    lines.append(f"instance_group [ {{ {instance} }} ]")
    if batched and not any(isinstance(dim, str) for port in inputs for dim in port.shape[1:]):
        lines.append(
            f"dynamic_batching {{ max_queue_delay_microseconds: {options.max_queue_delay_us} }}"
        )
    return "\n".join(lines) + "\n"


def plan_configuration(
    name: str,
    graph: onnx.GraphProto,
    info: PlanInfo,
    options: TritonOptions,
    labels: Sequence[str] = (),
) -> str:
    """config.pbtxt of a plan, which Triton runs on a GPU with CUDA graphs. Raises ExportError."""
    if info.module != "tensorrt":
        raise ExportError(
            f"Triton runs plans of tensorrt, and this one was built with {info.module}: build it "
            "with `python -m export.build_engine ARTIFACT --module tensorrt`, or remove it"
        )
    if min(profile.min for profile in info.profiles) > 1:
        raise ExportError(
            "no profile of the plan takes a batch of 1, and Triton sends such: add one"
        )
    largest = min(options.max_batch, max(profile.max for profile in info.profiles))
    profiles = ", ".join(f'"{number}"' for number in range(len(info.profiles)))
    instance = f"count: 1 kind: KIND_GPU profile: [ {profiles} ]"
    fitting = TritonOptions(largest, options.max_queue_delay_us)
    config = configuration(name, "tensorrt", graph, fitting, labels, instance, info.sizes)
    made = f"# built with TensorRT {info.version} for compute capability " + ", ".join(
        info.capabilities
    )
    return f"{made}\n{config}optimization {{ cuda {{ graphs: true }} }}\n"


def _port_lines(kind: str, port: Port, batched: bool, labels: Sequence[str]) -> Iterator[str]:
    """A row that is a single number has shape [], which Triton writes as dims [1], reshaped."""
    shape = port.shape[1:] if batched else port.shape
    dims = ", ".join(str(-1 if isinstance(dim, str) else dim) for dim in shape or (1,))
    parts = [f"name: {_quoted(port.name)}", f"data_type: {port.kind}", f"dims: [ {dims} ]"]
    if not shape:
        parts.append("reshape: { shape: [ ] }")
    if kind == "output" and labels and port.name == "logits":
        parts.append(f'label_filename: "{LABELS}"')
    yield f"{kind} [ {{ {' '.join(parts)} }} ]"


def _true_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = TYPES.get(value.type.tensor_type.elem_type)
    if kind is None:
        raise ExportError(f"Triton has no type for {value.name} of the graph: freeze it otherwise")
    dims = value.type.tensor_type.shape.dim
    return Port(value.name, kind, tuple(dim.dim_param or dim.dim_value for dim in dims))


def _fixed(port: Port, sizes: Mapping[str, int]) -> Port:
    shape = (sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in port.shape)
    return Port(port.name, port.kind, tuple(shape))


def _quoted(text: str) -> str:
    """Text as protobuf's text format writes it."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{escaped}"'
