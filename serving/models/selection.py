"""Which graphs of an artifact are served: by precision, by what they give, and by tokens a call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from luminanet import sampling
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import GraphEntry, Role, Runtime, Served
from luminanet.errors import ArtifactError
from serving.models.decode_logits import with_logits
from serving.models.graph_guard import check_graph
from serving.models.interface import check_interface, check_state
from serving.models.memory import allowance, ceiling
from serving.runtimes.backend import Backend, ByBatch
from serving.runtimes.onnxruntime_cpu import OrtCpu, give_back_freed

Entries = Mapping[str, GraphEntry]


@dataclass(frozen=True, slots=True)
class How:
    """What of the artifacts is served, and how; Settings of the same names say what it is."""

    threads: int
    precision: Served
    steps: int
    reproducible: bool


def logits(artifact: Artifact, how: How) -> Entries:
    """The graphs that give logits. Raises ArtifactError when there is none in this precision."""
    found = _graphs(artifact, how.precision, Role.LOGITS)
    if not found:
        again = _again(f"--precision {how.precision}")
        raise ArtifactError(
            f"{artifact.directory} has no graph in {how.precision}: {again}, or serve with "
            "--precision fp32"
        )
    return found


def drawing(artifact: Artifact, how: How) -> Entries:
    """The graphs that draw as many tokens as the server asks for, in one call or in the fewest
    equal ones; where texts must be reproducible one for all batch sizes. Raises ArtifactError when
    there is none."""
    logits(artifact, how)
    options = f"--precision {how.precision}" if how.precision != "fp32" else ""
    all_steps = _graphs(artifact, how.precision, Role.DECODE)
    if not all_steps:
        raise ArtifactError(
            f"{artifact.directory} has no graph that draws tokens: "
            f"{_again(options, f'--decode {how.steps}')}"
        )
    fitting = [e.steps for e in all_steps.values() if not (e.steps and how.steps % e.steps)]
    found = {name: e for name, e in all_steps.items() if e.steps == max(fitting, default=None)}
    if not found:
        there = sorted({entry.steps for entry in all_steps.values()})
        both = ",".join(map(str, sorted({*there, how.steps})))
        raise ArtifactError(
            f"{artifact.directory} has no graph that draws {how.steps} tokens a call; it has them "
            f"for {', '.join(map(str, there))}: serve with --steps {there[0]}, or "
            f"{_again(options, f'--decode {both}')}"
        )
    return of_one_row(found) if how.reproducible else found


def reading(artifact: Artifact, how: How) -> Entries:
    """The graph that reads prompts: of those that draw the one of the fewest tokens a call, for a
    single row."""
    graphs = _graphs(artifact, how.precision, Role.DECODE)
    fewest = min(entry.steps for entry in graphs.values())
    return of_one_row({name: e for name, e in graphs.items() if e.steps == fewest})


def of_one_row(graphs: Entries) -> Entries:
    """The graph for single requests alone."""
    name = min(graphs, key=lambda name: graphs[name].from_batch)
    return {name: graphs[name]}


class Loaded(NamedTuple):
    """Graphs by their files, and the backend that shares the batch sizes out among them."""

    graphs: Mapping[str, Backend]
    backend: Backend


def load_graphs(artifact: Artifact, graphs: Entries, how: How) -> Loaded:
    """Graphs that share the batch sizes, checked and loaded. Raises ArtifactError."""
    if len({entry.from_batch for entry in graphs.values()}) != len(graphs):
        raise ArtifactError(
            f"{artifact.directory} has two graphs for one batch size: freeze it again"
        )
    check_state(artifact.manifest, str(artifact.directory))
    loaded = {name: _load(artifact, name, how.threads) for name in graphs}
    give_back_freed()
    shared = ByBatch({entry.from_batch: loaded[name] for name, entry in graphs.items()})
    return Loaded(loaded, shared)


def _graphs(artifact: Artifact, precision: Served, role: Role) -> Entries:
    """What a CPU runs of one precision."""
    return {
        name: entry
        for name, entry in artifact.manifest.graphs.items()
        if entry.role is role
        and entry.runtime is not Runtime.TENSORRT
        and entry.precision.served == precision
    }


def _load(artifact: Artifact, name: str, threads: int) -> Backend:
    where, data = str(artifact.directory / name), artifact.read(name)
    entry, blocks = artifact.manifest.graphs[name], sampling.blocks(artifact.manifest.vocab_size)
    check_graph(data, where, entry.role, blocks.number * blocks.size)
    if entry.role is Role.DECODE:
        data = with_logits(data, artifact.manifest.vocab_size, where)
    with ceiling(allowance(len(data), threads)):
        backend = OrtCpu(data, threads, where)
    check_interface(artifact.manifest, entry, backend, where)
    return backend


def _again(*options: str) -> str:
    command = " ".join(["python export/freeze.py ckpt.pt", *filter(None, options)])
    return f"freeze its checkpoint again with `{command}`"
