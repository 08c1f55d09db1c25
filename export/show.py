"""What is in an artifact, for people: `python -m export.show DIR [--json]`.

Every file is read and checked against its hash, and every graph is parsed; nothing is run. Ends
with status 2 and one line when the artifact is not whole.

    python -m export.show DIR --check [--device cuda]

runs every graph on the artifact's probes, as a server does at its start, and ends with status 1
when one is further from the numpy reference than it may be on this machine.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from export.checks.probing import check
from export.graph.session import CPU, CUDA
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import GraphEntry, Manifest, Role, Runtime
from luminanet.artifact.tensorrt_plan import PLAN, PlanInfo, beside, open_plan, read_plan
from luminanet.errors import ArtifactError, clean, finish
from luminanet.machine import cpu

PROVIDERS = {"cpu": CPU, "cuda": CUDA}
COMMON = 8
"""Operators named in the short histogram."""
RUNTIMES = {
    Runtime.ANY: "onnxruntime and TensorRT",
    Runtime.CPU: "onnxruntime on a CPU",
    Runtime.TENSORRT: "TensorRT",
}


@dataclass(frozen=True, slots=True)
class GraphView:
    """One ONNX file: its nodes, those of loops' bodies included, and its interface."""

    nodes: int
    operators: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A whole artifact whose files match their hashes. A new section is a field and its rows."""

    manifest: Manifest
    graphs: Mapping[str, GraphView]
    plans: Mapping[str, PlanInfo]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    def rows(self) -> Iterator[tuple[str, str]]:
        """What is printed: a label, or "" where the text goes on with what is above."""
        yield from _described(self.manifest)
        yield from _files(self.manifest)
        for name, graph in self.graphs.items():
            yield from _graph_rows(name, graph, self.manifest.graphs[name])
        for name, plan in self.plans.items():
            yield name, f"{plan.module} {plan.version} for {', '.join(plan.capabilities)}"
            yield "", f"batches {' '.join(map(str, plan.profiles))}, from {plan.model}"
        yield from _listed("figures", self.manifest.figures)
        yield from _listed("versions", self.manifest.versions)
        yield "command", self.manifest.command or "unknown"
        yield "licence", self.manifest.license


def view(directory: Path) -> View:
    """Reads and checks all files. Raises ArtifactError."""
    artifact = Artifact.open(directory)
    files = artifact.manifest.files or {}
    graphs, plans = {}, {}
    for name, entry in files.items():
        data = artifact.read(name)
        if name.endswith(".onnx"):
            graphs[name] = _graph_view(data, f"{directory / name}")
            plan = (directory / name).with_suffix(Path(PLAN).suffix)
            if beside(plan).exists():
                plans[plan.name] = open_plan(plan)
                read_plan(plan, plans[plan.name], entry.sha256)
    return View(artifact.manifest, graphs, plans)


def _described(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "name", manifest.name
    yield "task", f"{manifest.task} ({manifest.family})"
    yield "network", manifest.summary
    yield "parameters", f"{manifest.parameters:,}"
    yield "MACs", f"{manifest.macs:,}" + (" per token" if manifest.context else " per image")
    if manifest.context:
        yield "context", f"{manifest.context:,} tokens of a vocabulary of {manifest.vocab_size:,}"
    if manifest.layers:
        sizes = f"{manifest.layers} layers, {manifest.heads} heads of {manifest.head_width}"
        yield "cache", sizes
    if manifest.labels:
        yield "labels", ", ".join(manifest.labels)


def _files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    label = "files"
    for name, entry in (manifest.files or {}).items():
        yield label, f"{name:<26}{entry.bytes:>13,} bytes  verified  sha256 {entry.sha256[:16]}"
        label = ""


def _graph_rows(name: str, graph: GraphView, entry: GraphEntry) -> Iterator[tuple[str, str]]:
    counts = sorted(graph.operators.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{count} {op}" for op, count in counts[:COMMON])
    rest = sum(count for _, count in counts[COMMON:])
    batches = f"from batch {entry.from_batch}, " if entry.from_batch > 1 else ""
    steps = f" ({entry.steps or 'any number of'} tokens a call)"
    role = entry.role + (steps if entry.role is Role.DECODE else "")
    yield (
        name,
        f"{role} in {entry.precision}, {batches}verified within {entry.verified_within:g}, "
        f"for {RUNTIMES[entry.runtime]}",
    )
    yield "", f"form {entry.form}: {entry.reason}"
    yield "", f"{graph.nodes} nodes: {told}" + (f", {rest} others" if rest else "")
    if entry.examples:
        figures = ", ".join(f"{name} {value:g}" for name, value in entry.examples.items())
        yield "", f"on examples: {figures}"
    yield from (("", f"in   {tensor}") for tensor in graph.inputs)
    yield from (("", f"out  {tensor}") for tensor in graph.outputs)


def _listed(label: str, values: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for name, value in (values or {}).items():
        yield label, f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        label = ""


def _graph_view(data: bytes, where: str) -> GraphView:
    try:
        graph = onnx.load_model_from_string(data).graph
        names = (f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in _nodes(graph))
        operators = Counter(names)
        weights = {tensor.name for tensor in graph.initializer}
        return GraphView(
            nodes=operators.total(),
            operators=dict(sorted(operators.items())),
            inputs=tuple(_value(v) for v in graph.input if v.name not in weights),
            outputs=tuple(_value(v) for v in graph.output),
        )
    except Exception as error:  # protobuf's own DecodeError, KeyError of an unknown type
        raise ArtifactError(f"{where} is not an ONNX graph: {error}") from error


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _value(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in kind.shape.dim)
    return f"{value.name} {helper.tensor_dtype_to_np_dtype(kind.elem_type)}[{dims}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    parser = argparse.ArgumentParser(prog="show", description="Print what is in an artifact.")
    parser.add_argument("artifact", type=Path, help="folder with manifest.json")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--check", action="store_true", help="run the graphs on this machine")
    parser.add_argument(
        "--device", choices=sorted(PROVIDERS), default="cpu", help="what --check runs them on"
    )
    arguments = parser.parse_args(argv)
    if arguments.check:
        return finish(lambda: _checked(arguments.artifact, PROVIDERS[arguments.device]))
    return finish(lambda: print(_text(view(arguments.artifact), arguments.json), end=""))


def _checked(directory: Path, provider: str) -> int:
    print(f"{'on':<28}{cpu()}" + (f", {provider}" if provider != CPU else ""))
    tried = list(check(Artifact.open(directory), provider))
    for one in tried:
        told = f"not run: {one.why_not}"
        if one.ratio is not None:
            verdict = "OUTSIDE its bound" if one.is_bad else "within its bound"
            told = f"{verdict}, {one.ratio:.3f} of it from the numpy reference"
        print(f"{one.file:<28}{clean(told)}")
    return int(any(one.is_bad for one in tried))


def _text(found: View, as_json: bool) -> str:
    if as_json:
        return found.to_json()
    try:
        rows = [(clean(label), clean(text)) for label, text in found.rows()]
    except (AttributeError, TypeError, ValueError) as error:
        raise ArtifactError(f"the manifest is damaged: {error}") from error
    width = max(len(label) for label, _ in rows) + 2
    return "".join(f"{label:<{width}}{text}\n" for label, text in rows)


if __name__ == "__main__":
    sys.exit(main())
