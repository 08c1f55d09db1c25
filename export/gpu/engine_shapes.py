"""How a TensorRT plan is asked for, and what that means for the inputs of a graph."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import external_data_helper

from luminanet.artifact.tensorrt_plan import MODULES, Profile
from luminanet.errors import ConfigError, ExportError

BATCH = "batch"
LIMIT_S = 900.0

Shapes = dict[str, list[list[int]]]
"""Input -> its shapes [min, opt, max] in one profile."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a plan is built. `module` and `capability` may be empty: what this machine has."""

    profiles: tuple[Profile, ...] = (Profile(),)
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of free dimensions beside the batch, which the plan holds fixed."""
    module: str = ""
    capability: str = ""
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        if self.module not in ("", *MODULES):
            raise ConfigError(f"module {self.module!r} is none of {', '.join(MODULES)}")
        if not self.profiles or not self.limit_s > 0 or min(self.sizes.values(), default=1) < 1:
            raise ConfigError("a plan needs a profile, sizes of at least 1 and a time limit")

    def words(self) -> str:
        """As options of the command line, without what is the default."""
        words = [
            f"--profile {profile}" for profile in self.profiles if self.profiles != (Profile(),)
        ]
        words += [f"--size {name}={size}" for name, size in sorted(self.sizes.items())]
        words += [f"--module {self.module}"] if self.module else []
        words += [f"--capability {self.capability}"] if self.capability else []
        return " ".join(words)


def shapes_of(data: bytes, options: PlanOptions) -> list[Shapes]:
    """The shapes of all inputs, profile by profile. Raises ExportError."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own DecodeError
        raise ExportError(f"this is not an ONNX file: {error}") from error
    if any(map(external_data_helper.uses_external_data, _tensors(model.graph))):
        raise ExportError("the ONNX file keeps weights in other files: freeze the network again")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in weights
    }
    free = {dim for shape in inputs.values() for dim in shape if isinstance(dim, str)} - {BATCH}
    if free != set(options.sizes):
        raise ExportError(
            f"the graph leaves {_names(free)} free beside the batch, and {_names(options.sizes)} "
            "was given: give each a size, for example --size steps=1"
        )
    return [
        {
            name: [
                [batch if dim == BATCH else options.sizes.get(dim, dim) for dim in shape]
                for batch in (profile.min, profile.opt, profile.max)
            ]
            for name, shape in inputs.items()
        }
        for profile in options.profiles
    ]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph and of the graphs in its nodes."""
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)
