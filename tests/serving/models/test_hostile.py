"""Artifacts made to do harm: each is refused in one clear line, quickly, and the process lives on.

Hashes fit wherever the attacker could make them fit: what is tested is what lies behind them.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import MODEL, TOKENIZER, Role
from luminanet.errors import ArtifactError
from serving.app import create_app
from serving.models.graph_guard import MAX_DEPTH, OPERATORS, check_graph
from serving.models.load import load
from serving.settings import Settings
from tests.nets import frozen, random_gpt2, random_net
from tests.serving.helpers import running

IMAGE, TEXT, GPT2 = "luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories"
ROOT = Path(__file__).parents[3]
MANIFEST = "manifest.json"
SECONDS = 2.0  # of a busy machine; alone, each takes a tenth of that

Json = dict[str, Any]


@pytest.fixture
def one(artifacts: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies one artifact of this name, which a test may spoil; returns its folder."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(artifacts / name / "artifact", tmp_path / "root" / name))

    return copy


def refused(directory: Path) -> str:
    """What the server says before it gives up: on loading, or in its first runs."""
    begun_s = perf_counter()
    with pytest.raises(ArtifactError) as caught:
        create_app(Settings(max_batch=2, threads=1), load(directory, threads=1))
    message = str(caught.value)
    assert perf_counter() - begun_s < SECONDS
    assert message.isprintable(), "one line that no terminal obeys"
    assert 20 < len(message) < 1000
    return message


# ---------------------------------------------------------------------- manifests


def told(change: Callable[[Json], object]) -> Callable[[str], str]:
    """A change of the parsed manifest, as one of its text."""

    def rewrite(text: str) -> str:
        raw = json.loads(text)
        change(raw)
        return json.dumps(raw)

    return rewrite


def listed(name: str) -> Callable[[str], str]:
    entry = {"sha256": "0" * 64, "bytes": 1}
    return told(lambda raw: raw["files"].update({name: entry}))


MANIFESTS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda _: "", "is damaged"),
    "null": (lambda _: "null", "is not a manifest"),
    "a list": (lambda text: f"[{text}]", "is not a manifest"),
    "half of it": (lambda text: text[: len(text) // 2], "is damaged"),
    "100,000 lists in lists": (lambda _: "[" * 100_000, "is damaged"),
    "50,000 objects in objects": (lambda _: '{"a":' * 50_000, "is damaged"),
    "a bomb as a value": (
        lambda text: text.replace('"context": 0', f'"context": {"[" * 50_000}{"]" * 50_000}'),
        "is damaged",
    ),
    "2 MB of spaces": (lambda text: text + " " * (2 << 20), "is larger than"),
    "UTF-16": (lambda text: text.encode("utf-16"), "is damaged"),
    "Latin-1": (lambda text: text.replace("plane", "\xe9").encode("latin-1"), "is damaged"),
    "zeros": (lambda text: bytes(len(text)), "is damaged"),
    "a lone surrogate": (told(lambda raw: raw.update(name="\ud800")), "not plain text"),
    "a key twice": (lambda text: text.replace("{", '{"format": 3,', 1), "a key comes twice"),
    "NaN": (lambda text: text.replace('"macs": ', '"macs": NaN, "x": '), "NaN"),
    "infinity": (lambda text: text.replace('"macs": ', '"macs": 1e999, "x": '), "too large"),
    "5,000 digits": (lambda text: text.replace('"macs": ', f'"macs": 1{"0" * 5000}'), "damaged"),
    "2 to the 63rd": (told(lambda raw: raw.update(parameters=1 << 63)), "parameters is"),
    "a negative size": (told(lambda raw: raw.update(context=-1)), "context is -1"),
    "a size that is true": (told(lambda raw: raw.update(layers=True)), "layers is True"),
    "a size that is text": (told(lambda raw: raw.update(macs="1")), "macs is '1'"),
    "a missing key": (told(lambda raw: raw.pop("summary")), "summary"),
    "an unknown key": (told(lambda raw: raw.update(__class__="os.system")), "__class__"),
    "format 1": (told(lambda raw: raw.update(format=1)), "freeze the checkpoint again"),
    "format 99": (told(lambda raw: raw.update(format=99)), "freeze the checkpoint again"),
    "format as a list": (told(lambda raw: raw.update(format=[2])), "freeze the checkpoint again"),
    "an unknown task": (told(lambda raw: raw.update(task="rm -rf")), "rm -rf"),
    "labels as an object": (told(lambda raw: raw.update(labels={})), "labels must be a list"),
    "a label of 1 MB": (told(lambda raw: raw.update(labels=["x" * 1_000_000])), "not plain text"),
    "a name for terminals": (told(lambda raw: raw.update(name="\x1b]0;pwned\x07")), "plain text"),
    "no files": (told(lambda raw: raw.update(files={})), "disagree about 'model.onnx'"),
    "files as text": (told(lambda raw: raw.update(files="model.onnx")), "files is 'model.onnx'"),
    "a file above": (listed("../model.onnx"), "a file that no artifact has"),
    "an absolute file": (listed("/etc/passwd"), "a file that no artifact has"),
    "a file below": (listed("a/b"), "a file that no artifact has"),
    "a file of Windows": (listed("..\\model.onnx"), "a file that no artifact has"),
    "a file with a zero byte": (listed("model\x00.onnx"), "not plain text"),
    "a file with a long name": (listed(f"model.{'a' * 5000}.onnx"), "a file that no artifact has"),
    "a short hash": (
        told(lambda raw: raw["files"][MODEL].update(sha256="ab")),
        "not 64 hexadecimal digits",
    ),
    "a hash in capitals": (
        told(lambda raw: raw["files"][MODEL].update(sha256="A" * 64)),
        "not 64 hexadecimal digits",
    ),
    "a hash of another": (
        told(lambda raw: raw["files"][MODEL].update(sha256="0" * 64)),
        "does not match the hash",
    ),
    "a file of 2 to the 62nd bytes": (
        told(lambda raw: raw["files"][MODEL].update(bytes=1 << 62)),
        "bytes is",
    ),
    "a graph that is not there": (
        told(
            lambda raw: (
                raw["graphs"].update({"model.int8.onnx": raw["graphs"][MODEL]}),
                raw["files"].update({"model.int8.onnx": raw["files"][MODEL]}),
                raw["files"].pop(MODEL),
            )
        ),
        "disagree about 'model.onnx'",
    ),
    "a graph of an unknown precision": (
        told(lambda raw: raw["graphs"][MODEL].update(precision="fp13")),
        "fp13",
    ),
    "a graph from batch -1 on": (
        told(lambda raw: raw["graphs"][MODEL].update(from_batch=-1)),
        "from_batch is -1",
    ),
    "two graphs for one batch": (
        told(
            lambda raw: (
                raw["graphs"].update({"model.batch.onnx": raw["graphs"][MODEL]}),
                raw["files"].update({"model.batch.onnx": raw["files"][MODEL]}),
            )
        ),
        "two graphs for one batch size",
    ),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_hostile_manifest_is_refused(case: str, one: Callable[[str], Path]) -> None:
    directory, (change, words) = one(IMAGE), MANIFESTS[case]
    before = (directory / MANIFEST).read_text("utf-8")
    after = change(before)
    assert after != before
    data = after if isinstance(after, bytes) else after.encode("utf-8", "surrogatepass")
    (directory / MANIFEST).write_bytes(data)
    assert words in refused(directory)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), insert=st.binary(max_size=3), drop=st.integers(0, 3))
def test_any_damage_to_a_manifest_is_refused_or_changes_no_rule(
    artifacts: Path, at: int, insert: bytes, drop: int
) -> None:
    data = (artifacts / TEXT / "artifact" / MANIFEST).read_bytes()
    at %= len(data)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(data[:at] + insert + data[at + drop :])
        try:
            manifest = Artifact.open(Path(folder)).manifest
        except ArtifactError as error:
            told = str(error)
        else:
            told = manifest.name
            assert set(manifest.graphs) <= set(manifest.files or {})
        assert told.isprintable()


# ---------------------------------------------------------------------- files and folders


def sealed(directory: Path, name: str, data: bytes) -> None:
    """Replaces a file and gives it the right hash."""
    path = directory / MANIFEST
    raw = json.loads(path.read_text())
    raw["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    path.write_text(json.dumps(raw))
    (directory / name).write_bytes(data)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(1 << 24))
    return file.getvalue()


def flipped(data: bytes, seed: int) -> bytes:
    """A bit of each of 8 places is turned over, in the part that is not weights."""
    rng, changed = np.random.default_rng(seed), bytearray(data)
    for at in rng.integers(0, 3000, 8):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "text": lambda _: b"hello, world\n" * 100,
    "a zip archive": lambda _: zipped(),
    "a picture": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a pickle": lambda _: b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.",
    "a library": lambda _: b"\x7fELF\x02\x01\x01" + bytes(1000),
    "the first half": lambda data: data[: len(data) // 2],
    "all but a byte": lambda data: data[:-1],
    "a wrong length": lambda data: b"\x3a\xff\xff\xff\xff\x7f" + data,
    "messages in messages": lambda _: nested(),
}


def nested() -> bytes:
    """GraphProto.node.attribute.g.node.. a thousand times."""
    graph = b""
    for _ in range(1000):
        attribute = b"\x32" + varint(len(graph)) + graph
        node = b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    return b"\x08\x0a\x3a" + varint(len(graph)) + graph


def varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_graph_are_refused(case: str, one: Callable[[str], Path]) -> None:
    directory = one(IMAGE)
    sealed(directory, MODEL, BYTES[case]((directory / MODEL).read_bytes()))
    assert MODEL in refused(directory)


def test_turned_bits_never_end_the_process(one: Callable[[str], Path]) -> None:
    """They may leave a graph that is as good as before, or one with another weight."""
    directory = one(IMAGE)
    data, told = (directory / MODEL).read_bytes(), []
    for seed in range(40):
        sealed(directory, MODEL, flipped(data, seed))
        try:
            create_app(Settings(max_batch=1, threads=1), load(directory, threads=1))
        except ArtifactError as error:
            told.append(str(error))
    assert len(told) > 20
    assert all(message.isprintable() for message in told)


def link_file(directory: Path) -> None:
    (directory / MODEL).rename(directory.parent.parent / "elsewhere")
    (directory / MODEL).symlink_to(directory.parent.parent / "elsewhere")


def link_manifest(directory: Path) -> None:
    (directory / MANIFEST).rename(directory.parent.parent / "elsewhere")
    (directory / MANIFEST).symlink_to(directory.parent.parent / "elsewhere")


def link_folder(directory: Path) -> None:
    directory.rename(directory.parent.parent / "elsewhere")
    directory.symlink_to(directory.parent.parent / "elsewhere")


def link_in_circles(directory: Path) -> None:
    (directory / MODEL).unlink()
    (directory / MODEL).symlink_to(directory / MODEL)


def folder_for_file(directory: Path) -> None:
    (directory / MODEL).unlink()
    (directory / MODEL).mkdir()


def pipe_for_file(directory: Path) -> None:
    (directory / MODEL).unlink()
    os.mkfifo(directory / MODEL)


def device_for_file(directory: Path) -> None:
    (directory / MODEL).unlink()
    (directory / MODEL).symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "trick",
    [
        link_file,
        link_manifest,
        link_folder,
        link_in_circles,
        folder_for_file,
        pipe_for_file,
        device_for_file,
    ],
)
def test_what_is_no_plain_file_or_folder_is_refused(
    trick: Callable[[Path], None], one: Callable[[str], Path]
) -> None:
    directory = one(IMAGE)
    trick(directory)
    assert str(directory.parent) in refused(directory.parent)


# ---------------------------------------------------------------------- graphs

Change = Callable[[onnx.ModelProto], None]


def weights(name: str = "w", *dims: int) -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    if dims:
        del tensor.dims[:]
        tensor.dims.extend(dims)
    return tensor


def external(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def node(op: str, inputs: list[str], **attributes: Any) -> Change:
    """One node more, the result of which is lost."""
    return lambda m: m.graph.node.append(helper.make_node(op, inputs, ["more"], **attributes))


def initializer(tensor: Callable[[], TensorProto]) -> Change:
    return lambda m: m.graph.initializer.append(tensor())


def branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [external(weights())])
    node("If", ["x"], then_branch=inner, else_branch=inner)(model)


def function(model: onnx.ModelProto) -> None:
    inner = helper.make_node("Constant", [], ["c"], value=external(weights()))
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("local", "F", [], ["c"], [inner], opsets))


def plain_function(model: onnx.ModelProto) -> None:
    inner, opsets = helper.make_node("Relu", ["x"], ["y"]), [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("", "Gemm", ["x"], ["y"], [inner], opsets))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 62), "forever"))
    node("Loop", ["forever", ""], body=body)(model)


def used(*nodes: onnx.NodeProto, **constants: np.ndarray[Any, Any]) -> Change:
    """Nodes that make a scalar `more`, which is added to the logits."""

    def change(model: onnx.ModelProto) -> None:
        for maker in model.graph.node:
            for at, name in enumerate(maker.output):
                if name == "logits":
                    maker.output[at] = "former"
        for name, array in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        model.graph.node.extend(nodes)
        model.graph.node.append(helper.make_node("Add", ["former", "more"], ["logits"]))

    return change


def peak(tensor: str) -> onnx.NodeProto:
    return helper.make_node("ReduceMax", [tensor], ["more"], keepdims=0)


TERABYTE = used(
    helper.make_node("Expand", ["one", "sizes"], ["big"]),
    peak("big"),
    one=np.ones(1, np.float32),
    sizes=np.array([1 << 20, 1 << 18]),
)
GIGABYTES = used(
    helper.make_node("Expand", ["one", "sizes"], ["big"]),
    peak("big"),
    one=np.ones(1, np.float32),
    sizes=np.array([1 << 10, 1 << 20]),
)
FOLDED = used(
    helper.make_node("MatMul", ["column", "row"], ["big"]),
    peak("big"),
    column=np.ones((1 << 17, 1), np.float32),
    row=np.ones((1, 1 << 17), np.float32),
)
COMPUTED = used(
    helper.make_node("Shape", ["images"], ["batch"], start=0, end=1),
    helper.make_node("Concat", ["batch", "side", "side"], ["sizes"], axis=0),
    helper.make_node("Expand", ["one", "sizes"], ["big"]),
    peak("big"),
    one=np.ones(1, np.float32),
    side=np.array([1 << 19]),
)
PADDED = used(
    helper.make_node("Pad", ["one", "ends"], ["big"]),
    peak("big"),
    one=np.ones(1, np.float32),
    ends=np.array([1 << 39, 0]),
)
COUNTED = used(
    helper.make_node("Range", ["from", "to", "by"], ["big"]),
    helper.make_node("Cast", ["big"], ["floats"], to=TensorProto.FLOAT),
    peak("floats"),
    **{"from": np.array(0), "to": np.array(1 << 39), "by": np.array(1)},
)


def opset(domain: str, version: int) -> Change:
    return lambda m: m.opset_import.append(helper.make_opsetid(domain, version))


def interface(kind: str, elem_type: int = 0, dims: tuple[int, ...] = ()) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = getattr(model.graph, kind)[0].type.tensor_type
        tensor.elem_type = elem_type or tensor.elem_type
        for place, size in enumerate(dims, start=1):
            tensor.shape.dim[place].dim_value = size

    return change


def untyped(model: onnx.ModelProto) -> None:
    model.graph.input[0].ClearField("type")


def as_double(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = TensorProto.DOUBLE


GRAPHS: dict[str, tuple[Change, str]] = {
    "weights elsewhere": (initializer(lambda: external(weights())), "in another file"),
    "an attribute elsewhere": (
        node("Constant", [], value=external(weights())),
        "in another file",
    ),
    "a branch with weights elsewhere": (branch, "in another file"),
    "a function with weights elsewhere": (function, "in another file"),
    "a function in place of an operator": (plain_function, "has functions"),
    "a constant as attribute": (node("Constant", [], value=weights()), "'Constant'"),
    "a tensor as attribute": (node("Relu", ["logits"], value=weights()), "as attribute"),
    "tensors as attribute": (
        node("Relu", ["logits"], value=[weights(), weights()]),
        "as attribute",
    ),
    "graphs as attribute": (
        node("Relu", ["logits"], bodies=[helper.make_graph([], "inner", [], [])] * 2),
        "as attribute",
    ),
    "an endless loop": (loop, "'Loop'"),
    "a compiled binary": (node("EPContext", [], domain="com.microsoft"), "EPContext"),
    "an unknown operator": (node("Exec", ["logits"]), "'Exec'"),
    "an operator that makes noise": (node("RandomNormal", [], shape=[1 << 40]), "RandomNormal"),
    "an unknown domain": (opset("evil", 1), "operator sets"),
    "a node of an unknown domain": (node("Relu", ["logits"], domain="evil"), "domain 'evil'"),
    "training operators": (opset("ai.onnx.preview.training", 1), "operator sets"),
    "another operator set": (lambda m: setattr(m.opset_import[0], "version", 2), "operator sets"),
    "another IR": (lambda m: setattr(m, "ir_version", 1 << 40), "IR version"),
    "2 to the 40th weights": (initializer(lambda: weights("w", 1 << 40)), "declares tensor"),
    "an overflowing product": (
        initializer(lambda: weights("w", 1 << 32, 1 << 32, 4)),
        "declares tensor",
    ),
    "negative sizes": (initializer(lambda: weights("w", -2, -2)), "declares tensor"),
    "a hundred sizes": (initializer(lambda: weights("w", *[1] * 100, 4)), "declares tensor"),
    "weights without bytes": (
        initializer(lambda: TensorProto(name="w", data_type=1, dims=[1 << 31])),
        "declares tensor",
    ),
    "weights as text": (
        initializer(lambda: helper.make_tensor("w", TensorProto.STRING, [1], [b"x"])),
        "declares tensor",
    ),
    "an unknown type": (
        initializer(lambda: TensorProto(name="w", data_type=77, dims=[])),
        "declares tensor",
    ),
    "a type that is too wide": (as_double, "declares tensor"),
    "a terabyte from a constant shape": (TERABYTE, "more memory"),
    "4 gigabytes, which many machines have": (GIGABYTES, "more memory"),
    "64 gigabytes from two constants": (FOLDED, "more memory"),
    "a terabyte from the batch": (COMPUTED, "more memory"),
    "a terabyte of padding": (PADDED, "more memory"),
    "4 terabytes of counting": (COUNTED, "more memory"),
    "numbers of another type": (interface("input", TensorProto.INT64), "model.onnx"),
    "an output of another type": (interface("output", TensorProto.DOUBLE), "model.onnx"),
    "a giant image": (interface("input", dims=(3, 1 << 30, 1 << 30)), "model.onnx"),
    "a giant answer": (interface("output", dims=(1 << 40,)), "model.onnx"),
    "a negative image": (interface("input", dims=(3, -32, -32)), "model.onnx"),
    "an input without a type": (untyped, "model.onnx"),
    "one more input": (
        lambda m: m.graph.input.append(helper.make_tensor_value_info("extra", 1, [1 << 40])),
        "asks for",
    ),
    "no output": (lambda m: m.graph.ClearField("output"), "model.onnx"),
    "a circle": (lambda m: m.graph.node.add(op_type="Relu", input=["q"], output=["q"]), "refuses"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_hostile_graph_is_refused(
    case: str, one: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    directory, (change, words) = one(IMAGE), GRAPHS[case]
    model = onnx.load_model_from_string((directory / MODEL).read_bytes())
    change(model)
    sealed(directory, MODEL, model.SerializeToString())
    assert words in refused(directory)
    assert capfd.readouterr().err == "", "the runtime must not talk past the server"


@pytest.mark.parametrize("text", [True, False])
def test_what_the_exporter_writes_is_never_taken_for_hostile(text: bool) -> None:
    """Random networks of any form are served; so is every precision for a CPU."""
    for seed in range(8):
        for graph in frozen(random_net(seed, text), "int8,fp16,bf16"):
            check_graph(graph.model.SerializeToString(), graph.file)
    for graph in frozen(random_gpt2(0), "int8"):
        check_graph(graph.model.SerializeToString(), graph.file)
    assert not OPERATORS[""] & {"Constant", "ConstantOfShape", "If", "Loop", "Scan"}


def test_what_decodes_is_never_taken_for_hostile() -> None:
    made = [
        graph for seed in range(4) for graph in frozen(random_net(seed, True), "int8", decode=(4,))
    ]
    for graph in (*made, *frozen(random_gpt2(0), "int8", decode=(2,))):
        data = graph.model.SerializeToString()
        check_graph(data, graph.file, graph.entry.role, most_turns=64)
        if graph.entry.role is Role.DECODE:
            with pytest.raises(ArtifactError, match=r"'(Loop|If)'|node '"):
                check_graph(data, graph.file, Role.LOGITS)


# ---------------------------------------------------------------------- graphs that decode

DECODE, GPT2_DECODE = "decode.onnx", "decode.4.onnx"


def nodes_of(graph: onnx.GraphProto, op: str) -> list[onnx.NodeProto]:
    """The nodes of this operator, in graphs at any depth, outer ones first."""
    found = [n for n in graph.node if n.op_type == op]
    inner = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return found + [n for g in inner for n in nodes_of(g, op)]


def graphs_in(graph: onnx.GraphProto, depth: int) -> list[onnx.GraphProto]:
    """All graphs inside, so deep."""
    inner = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return inner if depth == 0 else [g for each in inner for g in graphs_in(each, depth - 1)]


def body(model: onnx.ModelProto, depth: int = 0) -> onnx.GraphProto:
    """A graph inside, or one further inside: the body of the loop, if there is one."""
    return graphs_in(model.graph, depth)[-1]


def inside(change: Callable[[onnx.GraphProto], None], depth: int = 0) -> Change:
    return lambda model: change(body(model, depth))


def add(*made: onnx.NodeProto) -> Callable[[onnx.GraphProto], None]:
    return lambda graph: graph.node.extend(made)


def keep(*tensors: TensorProto) -> Callable[[onnx.GraphProto], None]:
    return lambda graph: graph.initializer.extend(tensors)


def sparse(graph: onnx.GraphProto) -> None:
    places = numpy_helper.from_array(np.arange(4))
    graph.sparse_initializer.append(helper.make_sparse_tensor(weights(), places, [4]))


def turned(count: np.ndarray[Any, Any], name: str = "forever") -> Change:
    """All loops but the outermost turn so many times."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(count, name))
        for loop in nodes_of(model.graph, "Loop"):
            if loop.input[0] != "steps":
                loop.input[0] = name

    return change


def computed_turns(model: onnx.ModelProto) -> None:
    """As many turns as the largest seed."""
    made = helper.make_node("ReduceMax", ["seeds"], ["turns"], keepdims=0)
    model.graph.node.insert(0, made)
    for loop in nodes_of(model.graph, "Loop"):
        loop.input[0] = "turns"


def shadowed_turns(model: onnx.ModelProto) -> None:
    """A small constant, the name of which is computed again inside."""
    turned(np.array(4), "few")(model)
    body(model).node.append(helper.make_node("ReduceMax", ["seeds"], ["few"], keepdims=0))


def loops_in_loops(model: onnx.ModelProto) -> None:
    """Each within the bound; together they turn 100 to the fifth times."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(100), "hundred"))
    on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    graph = helper.make_graph([], "inner", [turn, on], [on])
    for _ in range(5):
        loop = helper.make_node("Loop", ["hundred", ""], [], body=graph)
        graph = helper.make_graph([loop], "outer", [turn, on], [on])
    model.graph.node.extend(graph.node)


def deep(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(MAX_DEPTH + 1):
        branch = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([branch], "outer", [], [])
    model.graph.node.extend(graph.node)


def many(model: onnx.ModelProto) -> None:
    body(model).node.extend([helper.make_node("Relu", ["x"], ["y"])] * 100_001)


def wide(model: onnx.ModelProto) -> None:
    """A terabyte inside the body, from a few bytes."""
    graph = body(model)
    logits = next(n for n in graph.node if n.op_type == "LogSoftmax").input[0]
    for maker in graph.node:
        maker.output[:] = ["former" if name == logits else name for name in maker.output]
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one_number"))
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 18]), "terabyte"))
    made = [
        helper.make_node("Expand", ["one_number", "terabyte"], ["big"]),
        peak("big"),
        helper.make_node("Add", ["former", "more"], [logits]),
    ]
    place = 1 + max(at for at, n in enumerate(graph.node) if "former" in n.output)
    rest = list(graph.node)[place:]
    del graph.node[place:]
    graph.node.extend([*made, *rest])


def renamed_attribute(model: onnx.ModelProto) -> None:
    nodes_of(model.graph, "If")[0].attribute[0].name = "body"


BODIES: dict[str, tuple[Change, str]] = {
    "an unknown operator in a body": (
        inside(add(helper.make_node("Exec", ["x"], ["y"]))),
        "'Exec'",
    ),
    "an operator of another role in a body": (
        inside(add(helper.make_node("ConstantOfShape", ["x"], ["y"]))),
        "'ConstantOfShape'",
    ),
    "a compiled binary deep inside": (
        inside(add(helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")), 3),
        "EPContext",
    ),
    "noise in a branch": (
        inside(add(helper.make_node("RandomNormal", [], ["y"], shape=[1 << 40])), 2),
        "'RandomNormal'",
    ),
    "a scan": (
        inside(
            add(helper.make_node("Scan", ["x"], ["y"], body=helper.make_graph([], "b", [], [])))
        ),
        "'Scan'",
    ),
    "a domain inside": (
        inside(add(helper.make_node("Relu", ["x"], ["y"], domain="evil"))),
        "domain 'evil'",
    ),
    "weights elsewhere in a body": (inside(keep(external(weights()))), "in another file"),
    "weights elsewhere deep inside": (inside(keep(external(weights())), 4), "in another file"),
    "sparse weights in a body": (inside(sparse), "sparse weights"),
    "2 to the 40th weights in a body": (inside(keep(weights("w", 1 << 40))), "declares tensor"),
    "weights as text deep inside": (
        inside(keep(helper.make_tensor("w", TensorProto.STRING, [1], [b"x"])), 3),
        "declares tensor",
    ),
    "a tensor as attribute in a body": (
        inside(add(helper.make_node("Relu", ["x"], ["y"], value=weights()))),
        "as attribute",
    ),
    "a graph as attribute of another node": (
        inside(
            add(helper.make_node("Relu", ["x"], ["y"], body=helper.make_graph([], "b", [], [])))
        ),
        "as attribute",
    ),
    "graphs as one attribute": (
        inside(
            add(helper.make_node("If", ["x"], ["y"], body=[helper.make_graph([], "b", [], [])]))
        ),
        "as attribute",
    ),
    "a branch by another name": (renamed_attribute, "as attribute"),
    "2 to the 62nd turns": (turned(np.array(1 << 62)), "turn more than"),
    "a turn too many": (turned(np.array(10_000)), "turn more than"),
    "turns below zero": (turned(np.array(-1)), "turn more than"),
    "turns as a list": (turned(np.array([5])), "turn more than"),
    "turns without end": (turned(np.array(5), ""), "turn more than"),
    "turns that are computed": (computed_turns, "turn more than"),
    "turns that are hidden": (shadowed_turns, "turn more than"),
    "loops in loops": (loops_in_loops, "turn more than"),
    "graphs in graphs": (deep, f"more than {MAX_DEPTH} graphs"),
    "a hundred thousand nodes in a body": (many, "nodes, more than"),
}


@pytest.mark.parametrize("name", [TEXT, GPT2])
@pytest.mark.parametrize("case", BODIES)
def test_a_hostile_graph_inside_a_graph_is_refused(
    case: str, name: str, one: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    directory, (change, words) = one(name), BODIES[case]
    file = DECODE if name == TEXT else GPT2_DECODE
    model = onnx.load_model_from_string((directory / file).read_bytes())
    change(model)
    sealed(directory, file, model.SerializeToString())
    message = refused(directory)
    assert words in message
    assert file in message
    assert capfd.readouterr().err == "", "the runtime must not talk past the server"


def test_a_terabyte_inside_a_loop_is_refused(one: Callable[[str], Path]) -> None:
    directory = one(TEXT)
    model = onnx.load_model_from_string((directory / DECODE).read_bytes())
    wide(model)
    sealed(directory, DECODE, model.SerializeToString())
    assert "more memory" in refused(directory)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"role": "logits"}, "not that of its name"),
        ({"role": "execute"}, "execute"),
        ({"steps": 4}, "steps 4, which no luminanet has"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1 << 40}, "steps is"),
        ({"steps": True}, "steps is True"),
    ],
)
def test_a_graph_that_decodes_and_is_told_badly_is_refused(
    values: Json, words: str, one: Callable[[str], Path]
) -> None:
    directory = one(TEXT)
    raw = json.loads((directory / MANIFEST).read_text())
    raw["graphs"][DECODE] |= values
    (directory / MANIFEST).write_text(json.dumps(raw))
    assert words in refused(directory)


def test_a_graph_that_gives_logits_cannot_pass_for_one_that_decodes(
    one: Callable[[str], Path],
) -> None:
    directory = one(TEXT)
    sealed(directory, DECODE, (directory / MODEL).read_bytes())
    assert "its manifest asks for" in refused(directory)


# ---------------------------------------------------------------------- tokenizers


def spoilt(change: Callable[[Json], object]) -> Callable[[bytes], bytes]:
    def rewrite(data: bytes) -> bytes:
        raw = json.loads(data)
        change(raw)
        return json.dumps(raw).encode()

    return rewrite


TOKENIZERS: dict[str, Callable[[bytes], bytes]] = {
    "lists in lists": lambda _: b"[" * 100_000,
    "null": lambda _: b"null",
    "bytes that are no text": lambda data: b"\xff" + data,
    "70 MB": lambda data: data + b" " * (70 << 20),
    "a gigabyte of padding": spoilt(
        lambda raw: raw.update(
            padding={
                "strategy": {"Fixed": 1 << 30},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        )
    ),
    "a regular expression without end": spoilt(
        lambda raw: raw.update(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a+)+$"},
                "behavior": "Removed",
                "invert": False,
            }
        )
    ),
    "text that grows": spoilt(
        lambda raw: raw.update(
            normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10_000}
        )
    ),
    "a decoder that grows": spoilt(
        lambda raw: raw.update(
            decoder={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10_000}
        )
    ),
    "another model": spoilt(
        lambda raw: raw.update(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"})
    ),
    "ids that are far apart": spoilt(
        lambda raw: raw["model"]["vocab"].update({next(iter(raw["model"]["vocab"])): 1 << 31})
    ),
    "an id twice": spoilt(lambda raw: raw["model"]["vocab"].update(twice=3)),
    "no end of text": lambda data: data.replace(b"<|endoftext|>", b"<|other|>"),
    "one token more": spoilt(
        lambda raw: raw["model"]["vocab"].update(more=len(raw["model"]["vocab"]))
    ),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_hostile_tokenizer_is_refused(case: str, one: Callable[[str], Path]) -> None:
    directory = one(TEXT)
    sealed(directory, TOKENIZER, TOKENIZERS[case]((directory / TOKENIZER).read_bytes()))
    assert TOKENIZER in refused(directory)


# ---------------------------------------------------------------------- states


@pytest.mark.parametrize(
    "facts", [{"layers": 1 << 40}, {"layers": 4096, "heads": 4096}, {"context": 1 << 24}]
)
def test_a_cache_larger_than_any_machine_is_refused(
    facts: Json, one: Callable[[str], Path]
) -> None:
    directory = one(GPT2)
    raw = json.loads((directory / MANIFEST).read_text()) | facts
    (directory / MANIFEST).write_text(json.dumps(raw))
    assert str(directory) in refused(directory)


# ---------------------------------------------------------------------- the server


@pytest.mark.parametrize("case", ["a manifest", "a graph", "a terabyte"])
def test_the_server_ends_with_one_line(case: str, one: Callable[[str], Path]) -> None:
    directory = one(IMAGE)
    if case == "a manifest":
        (directory / MANIFEST).write_text("[" * 100_000)
    else:
        change = GRAPHS["an endless loop"][0] if case == "a graph" else TERABYTE
        model = onnx.load_model_from_string((directory / MODEL).read_bytes())
        change(model)
        sealed(directory, MODEL, model.SerializeToString())
    command = [sys.executable, "-m", "serving", "--port=0", f"--artifacts={directory}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_process_that_met_them_serves_on(artifacts: Path, one: Callable[[str], Path]) -> None:
    directory = one(IMAGE)
    model = onnx.load_model_from_string((directory / MODEL).read_bytes())
    TERABYTE(model)
    sealed(directory, MODEL, model.SerializeToString())
    refused(directory)
    with running(load(artifacts, threads=1)) as server:
        assert server.post("/generate", prompt="Once", max_tokens=3).status_code == 200
