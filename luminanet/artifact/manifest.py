"""What an artifact says of itself: manifest.json, in its directory (directory.py).

    manifest.json    this file's Manifest: what it is, its files with hashes, its figures
    model.onnx       the static graph in float32
    model.*.onnx     the same network in another form or precision (GraphEntry)
    model.tensorrt.onnx    GPT-2, when TensorRT was asked for: standard operators alone
    decode.onnx      text: the same network with the sampler inside, any number of tokens a call
    decode.K.onnx    the same for a GPT-2, K tokens a call; decode.*.onnx as model.*.onnx
    topology.json    the architecture (LuminaNet only)
    tokenizer.json   text models only
    probes.json      inputs and what the reference answers, so that any machine can try the graphs

What its graphs take and give is told in luminanet/interface.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from luminanet.errors import ArtifactError
from luminanet.untrusted import line, mapping, number, parse, plain, shown, whole

FORMAT = 3
MANIFEST = "manifest.json"
MODEL = "model.onnx"
TENSORRT_MODEL = "model.tensorrt.onnx"
TOPOLOGY = "topology.json"
TOKENIZER = "tokenizer.json"
PROBES = "probes.json"
GRAPH_FILE = re.compile(r"(?:model|decode)(\.[a-z0-9-]{1,20}){0,2}\.onnx")
DECODE = "decode"
"""What the name of a file with a graph that decodes begins with; others begin with "model"."""
SHA256 = re.compile("[0-9a-f]{64}")
MAX_FILE_BYTES = 1 << 31
MAX_GRAPHS = 32
MAX_STEPS = 64
"""The most tokens that one call of a decode graph draws."""
LIMITS = {
    "parameters": 1 << 40,
    "macs": 1 << 40,
    "context": 1 << 24,
    "vocab_size": 1 << 24,
    "end_id": 1 << 24,
    "heads": 1 << 12,
    "layers": 1 << 12,
    "head_width": 1 << 16,
}
"""The largest sizes that a manifest may tell."""


class Task(StrEnum):
    CLASSIFICATION = "image-classification"
    GENERATION = "text-generation"


class Family(StrEnum):
    LUMINANET = "luminanet"
    GPT2 = "gpt2"


Served = Literal["fp32", "int8"]
"""Words for what a server on a CPU may be asked for: of each the graphs share the batch sizes."""


class Precision(StrEnum):
    """What a graph computes in; its inputs and outputs are float32 all the same."""

    FP32 = "fp32", "fp32"
    INT8 = "int8", "int8"
    INT8_BATCH = "int8-batch", "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    QDQ_INT8 = "qdq-int8"

    served: Served | None
    """The word that it is served for; None where no server on a CPU is."""

    def __new__(cls, word: str, served: Served | None = None) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.served = served
        return member


class Role(StrEnum):
    """What a graph gives: logits, or tokens that it has drawn."""

    LOGITS = "logits"
    DECODE = "decode"


class Runtime(StrEnum):
    """What a graph is made for: onnxruntime on a CPU, TensorRT, or both of them."""

    ANY = "any"
    CPU = "cpu"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, slots=True)
class FileEntry:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class GraphEntry:
    """One graph of the network. Nothing here depends on the machine that made it, except that the
    last digit of `examples` may."""

    precision: Precision
    form: str
    reason: str
    """One sentence: why this form or precision."""
    nodes: int
    verified_within: float
    """Error against the numpy reference that was allowed, and kept. fp32: largest |difference| of
    the logits over the largest |logit| (1 at least); others: root mean square of one over that of
    the other. A graph that decodes: largest difference of a log-probability, in nats, from that of
    the graph of its form and precision that gives logits."""
    from_batch: int = 1
    """The smallest batch that this graph, of those of its precision, computes fastest."""
    role: Role = Role.LOGITS
    steps: int = 0
    """Tokens that a call of a graph that decodes draws; 0: as many as each call asks for."""
    runtime: Runtime = Runtime.ANY
    """A server on a CPU leaves out what is for TensorRT, and no plan is built of what is not."""
    examples: Mapping[str, float] = field(default_factory=dict)
    """What it does and loses on real examples, where some were given; units are in the names."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself. Figures are measured ones; units are in their names."""

    name: str
    task: Task
    family: Family
    summary: str
    parameters: int
    macs: int
    """Multiply-accumulates of one forward (text: one token), counted from the graph without
    embedding look-ups and without attention over the cache."""
    context: int = 0
    """Tokens that one prediction can see; 0 for images."""
    vocab_size: int = 0
    end_id: int = 0
    heads: int = 0
    layers: int = 0
    head_width: int = 0
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] | None = None
    license: str = "Apache-2.0"
    command: str = ""
    versions: Mapping[str, str] | None = None
    graphs: Mapping[str, GraphEntry] = field(default_factory=dict)
    files: Mapping[str, FileEntry] | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str = MANIFEST) -> "Manifest":
        try:
            raw = parse(text)
            if not isinstance(raw, dict) or "format" not in raw:
                raise ArtifactError(f"{where} is not a manifest")
            if raw["format"] != FORMAT or type(raw["format"]) is not int:
                raise ArtifactError(
                    f"{where} has format {shown(raw['format'])}; this build reads {FORMAT}: "
                    "freeze the checkpoint again with this version"
                )
            return _manifest(raw)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"{where} is damaged ({type(error).__name__}: {line(error)}): "
                "freeze the checkpoint again, or copy the artifact anew"
            ) from error


def _manifest(raw: dict[str, Any]) -> Manifest:
    raw = dict(raw)
    raw["task"], raw["family"] = Task(raw["task"]), Family(raw["family"])
    if not isinstance(raw["labels"], list):
        raise TypeError("labels must be a list")
    raw["labels"] = tuple(plain(label, "a label") for label in raw["labels"])
    raw["files"] = {name: _file(entry) for name, entry in mapping(raw["files"], "files").items()}
    graphs = mapping(raw["graphs"], "graphs", MAX_GRAPHS)
    raw["graphs"] = {name: _graph(entry, name) for name, entry in graphs.items()}
    raw["figures"] = _numbers(raw["figures"] or {}, "figures")
    versions = mapping(raw["versions"] or {}, "versions")
    raw["versions"] = {name: plain(version, name) for name, version in versions.items()}
    manifest = Manifest(**raw)
    for name in ("name", "summary", "license", "command"):
        plain(getattr(manifest, name), name)
    for name, most in LIMITS.items():
        whole(getattr(manifest, name), name, most)
    _check_graphs(manifest.graphs, raw["files"])
    _check_decoding(manifest)
    return manifest


def _file(raw: Any) -> FileEntry:
    entry = FileEntry(**mapping(raw, "a file"))
    if not SHA256.fullmatch(plain(entry.sha256, "sha256")):
        raise ValueError(f"sha256 is {shown(entry.sha256)}, not 64 hexadecimal digits")
    whole(entry.bytes, "bytes", MAX_FILE_BYTES)
    return entry


def _graph(raw: Any, name: str) -> GraphEntry:
    raw = mapping(raw, name)
    raw |= {"precision": Precision(raw["precision"]), "role": Role(raw["role"])}
    raw["runtime"] = Runtime(raw.get("runtime", Runtime.ANY))
    entry = GraphEntry(**raw | {"examples": _numbers(raw["examples"], "examples")})
    plain(entry.form, "form")
    plain(entry.reason, "reason")
    whole(entry.nodes, "nodes", 1 << 24)
    whole(entry.from_batch, "from_batch", 1 << 24, least=1)
    whole(entry.steps, "steps", MAX_STEPS)
    if name.startswith(DECODE) != (entry.role is Role.DECODE):
        raise ValueError(f"{name} has the role {entry.role}, which is not that of its name")
    if entry.steps and entry.role is not Role.DECODE:
        raise ValueError(f"{name} gives logits, and steps is {entry.steps}")
    number(entry.verified_within, "verified_within")
    return entry


def _numbers(raw: Any, name: str) -> dict[str, float]:
    return {key: number(value, key) for key, value in mapping(raw, name).items()}


def _check_graphs(graphs: Mapping[str, GraphEntry], files: Mapping[str, FileEntry]) -> None:
    """Raises ValueError unless the files are an artifact's, and their graphs are told."""
    found = {name for name in files if GRAPH_FILE.fullmatch(name)}
    unknown = set(files) - found - {TOPOLOGY, TOKENIZER, PROBES}
    if unknown:
        raise ValueError(f"it lists {shown(min(unknown))}, a file that no artifact has")
    if set(graphs) != found:
        raise ValueError(f"graphs and files disagree about {shown(min(set(graphs) ^ found))}")
    plainest = graphs.get(MODEL)
    if (
        plainest is None
        or (plainest.precision, plainest.role) != (Precision.FP32, Role.LOGITS)
        or plainest.runtime is Runtime.TENSORRT
    ):
        raise ValueError(f"it has no {MODEL} in fp32 that gives logits on a CPU")


def _check_decoding(manifest: Manifest) -> None:
    """Raises ValueError unless the graphs that decode are such as the network can have."""
    for name, entry in manifest.graphs.items():
        if entry.role is not Role.DECODE:
            continue
        if manifest.task is not Task.GENERATION:
            raise ValueError(f"{name} decodes, and the task is {manifest.task}")
        if bool(entry.steps) != (manifest.family is Family.GPT2):
            raise ValueError(f"{name} has steps {entry.steps}, which no {manifest.family} has")
