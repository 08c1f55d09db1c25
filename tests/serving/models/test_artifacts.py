"""Damaged, foreign or incomplete artifacts are refused, with a way to mend it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from luminanet.artifact.directory import Artifact, write
from luminanet.artifact.manifest import MODEL, TOKENIZER, TOPOLOGY, Family
from luminanet.errors import ArtifactError
from serving.metrics.families import Metrics
from serving.models.graph_guard import check_graph
from serving.models.load import load
from serving.service import Service
from serving.settings import Settings

IMAGE, TEXT, GPT2 = "luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories"
DECODE, GPT2_DECODE = "decode.onnx", "decode.4.onnx"
SERVED = {IMAGE: (MODEL,), TEXT: (DECODE,), GPT2: (GPT2_DECODE,)}


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    """Artifacts that a test may damage."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


def rewrite(
    root: Path,
    name: str,
    change: Callable[[onnx.ModelProto], None],
    file: str | None = None,
    **facts: Any,
) -> None:
    """Changes a graph (the first that is served) or the facts of an artifact and gives it a
    manifest that fits."""
    file = file or SERVED[name][0]
    directory = root / name / "artifact"
    artifact = Artifact.open(directory)
    files = {each: artifact.read(each) for each in artifact.manifest.files or {}}
    model = onnx.load_model_from_string(files[file])
    change(model)
    files[file] = model.SerializeToString()
    write(directory, replace(artifact.manifest, **facts), files)


def keep(_: onnx.ModelProto) -> None:
    pass


def refused(root: Path, match: str) -> None:
    with pytest.raises(ArtifactError, match=match) as caught:
        load(root, threads=1)
    assert "\n" not in str(caught.value)


def test_a_folder_of_folders_a_folder_and_one_artifact_can_be_named(artifacts: Path) -> None:
    assert set(load(artifacts, 1).text) == {Family.LUMINANET, Family.GPT2}
    assert load(artifacts, 1).image is not None
    assert set(load(artifacts / TEXT, 1).text) == {Family.LUMINANET}
    assert load(artifacts / IMAGE / "artifact", 1).text == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [(TEXT, TOKENIZER), *((name, file) for name, files in SERVED.items() for file in files)],
)
def test_a_file_that_was_changed_is_refused(copy: Path, name: str, file: str) -> None:
    path = copy / name / "artifact" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(copy, "does not match the hash in its manifest")


def test_a_missing_file_is_refused(copy: Path) -> None:
    (copy / GPT2 / "artifact" / GPT2_DECODE).unlink()
    refused(copy, f"{GPT2_DECODE} is missing")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', '{"format": 1}', "\xff"])
def test_a_corrupt_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / TEXT / "artifact" / "manifest.json").write_bytes(text.encode("latin-1"))
    refused(copy, "manifest.json")


def test_a_folder_without_artifacts_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "there is no artifact under")
    refused(tmp_path / "nowhere", "is not a folder")


def test_two_artifacts_of_one_name_are_refused(copy: Path) -> None:
    shutil.copytree(copy / TEXT, copy / "second")
    refused(copy, f"are both called {TEXT}: remove one of them")


def rename(directory: Path, name: str) -> None:
    artifact = Artifact.open(directory)
    files = {file: artifact.read(file) for file in artifact.manifest.files or {}}
    write(directory, replace(artifact.manifest, name=name), files)


def test_a_name_that_stands_for_the_default_of_a_family_is_refused_for_another(copy: Path) -> None:
    rename(copy / TEXT / "artifact", "gpt2")
    refused(copy, "is called gpt2, which stands for the default")
    rename(copy / TEXT / "artifact", "luminanet")
    assert load(copy, 1).texts[-1].manifest.name == "luminanet"
    shutil.copytree(copy / TEXT, copy / "a-second")
    rename(copy / "a-second" / "artifact", "first")
    refused(copy, "is called luminanet, which stands for the default")


def test_a_file_that_cannot_be_read_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    refused(copy, r"model.onnx cannot be read: Permission denied|tokenizer.json cannot be read")


# ---------------------------------------------------------------------- graphs


def external(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    return tensor


def weights() -> TensorProto:
    return numpy_helper.from_array(np.ones((2, 2), np.float32), "w")


def initializer(model: onnx.ModelProto) -> None:
    external(model.graph.initializer[0])


def attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external(weights())))


def nested_graph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [external(weights())])
    outer = helper.make_graph(
        [helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)], "o", [], []
    )
    model.graph.node.append(
        helper.make_node("If", ["x"], ["z"], then_branch=outer, else_branch=outer)
    )


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(external(weights()), weights(), [2, 2])
    )


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=external(weights()))
    model.functions.append(
        helper.make_function("local", "F", [], ["c"], [node], [helper.make_opsetid("", 20)])
    )


@pytest.mark.parametrize(("name", "file"), [(TEXT, DECODE), (GPT2, GPT2_DECODE)])
@pytest.mark.parametrize("hide", [initializer, attribute, nested_graph, sparse, function])
def test_external_data_is_refused_wherever_it_hides(
    copy: Path, hide: Callable[[onnx.ModelProto], None], name: str, file: str
) -> None:
    (copy / "secret.bin").write_bytes(bytes(16))
    rewrite(copy, name, hide, file)
    refused(copy, "keeps tensor .* in another file")


def test_compiled_binaries_are_refused(copy: Path) -> None:
    rewrite(
        copy,
        TEXT,
        lambda model: model.graph.node.append(
            helper.make_node("EPContext", [], ["e"], domain="com.microsoft")
        ),
    )
    refused(copy, "EPContext")


def ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))


@pytest.mark.parametrize(
    ("change", "match"),
    [(ir, "IR version 99"), (opset, "operator sets"), (domain, "operator sets.*evil.ops")],
)
def test_graphs_of_other_versions_are_refused(
    copy: Path, change: Callable[[onnx.ModelProto], None], match: str
) -> None:
    rewrite(copy, GPT2, change)
    refused(copy, f"{match}.*freeze the model again")


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(ArtifactError, match="is not an ONNX model"):
        check_graph(b"hello", "model.onnx")


def test_a_graph_that_the_runtime_refuses_is_refused(copy: Path) -> None:
    rewrite(copy, IMAGE, lambda m: m.graph.node.append(helper.make_node("Relu", ["q"], ["r"])))
    refused(copy, "onnxruntime refuses the graph")


def test_an_operator_that_is_never_exported_is_refused(copy: Path) -> None:
    rewrite(copy, IMAGE, lambda m: m.graph.node.append(helper.make_node("NoSuchOp", ["q"], ["r"])))
    refused(copy, "node 'NoSuchOp' of domain ''")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (TEXT, {"context": 17}),
        (IMAGE, {"labels": ("a", "b")}),
        (GPT2, {"layers": 2}),
        (GPT2, {"head_width": 9}),
    ],
)
def test_a_graph_with_another_interface_than_its_manifest_is_refused(
    copy: Path, name: str, facts: dict[str, Any]
) -> None:
    for other in {TEXT, IMAGE, GPT2} - {name}:
        shutil.rmtree(copy / other)
    rewrite(copy, name, keep, **facts)
    refused(copy, "its manifest asks for")


def unknown_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.INT64, ["batch"]))


def missing_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


@pytest.mark.parametrize(("name", "file"), [(TEXT, DECODE), (GPT2, GPT2_DECODE)])
@pytest.mark.parametrize("change", [unknown_input, missing_output])
def test_a_graph_that_draws_with_another_interface_is_refused(
    copy: Path, name: str, file: str, change: Callable[[onnx.ModelProto], None]
) -> None:
    rewrite(copy, name, change, file)
    refused(copy, "its manifest asks for")


@pytest.mark.parametrize("name", [TEXT, GPT2])
def test_a_text_artifact_without_graphs_that_draw_says_how_to_add_them(
    copy: Path, name: str
) -> None:
    directory = copy / name / "artifact"
    artifact, file = Artifact.open(directory), SERVED[name][-1]
    manifest, others = artifact.manifest, set(artifact.manifest.files or {}) - {file}
    graphs = {n: entry for n, entry in manifest.graphs.items() if n != file}
    files = {other: artifact.read(other) for other in others}
    write(directory, replace(manifest, graphs=graphs), files)
    refused(copy, r"no graph that draws tokens: .*`python export/freeze\.py ckpt\.pt --decode 4`")


def test_a_number_of_tokens_that_no_graph_draws_is_told_with_those_there_are(
    artifacts: Path,
) -> None:
    with pytest.raises(ArtifactError, match="no graph that draws 6 tokens a call") as caught:
        load(artifacts, threads=1, steps=6)
    assert "for 4: serve with --steps 4, or" in str(caught.value)
    assert "`python export/freeze.py ckpt.pt --decode 4,6`" in str(caught.value)
    assert load(artifacts / TEXT, threads=1, steps=8).text[Family.LUMINANET].how.steps == 8


@pytest.mark.parametrize("facts", [{"vocab_size": 7}, {"end_id": 3}, {"context": 0}])
def test_a_tokenizer_that_does_not_fit_its_manifest_is_refused(
    copy: Path, facts: dict[str, Any]
) -> None:
    rewrite(copy, TEXT, keep, **facts)
    refused(copy, "does not fit its manifest")


@pytest.mark.parametrize("labels", [(), ("a",) * 10])
def test_labels_that_are_missing_or_repeat_are_refused(copy: Path, labels: tuple[str]) -> None:
    rewrite(copy, IMAGE, keep, labels=labels)
    refused(copy, "labels are missing or repeat")


def test_a_graph_that_fails_on_its_first_run_is_refused(copy: Path) -> None:
    def break_table(model: onnx.ModelProto) -> None:
        """A Gather beyond the end of its table: it loads, but cannot run."""
        bad = numpy_helper.from_array(np.array([10**6]), "bad_index")
        model.graph.initializer.append(bad)
        for node in model.graph.node:
            if node.op_type == "Gather":
                node.input[1] = "bad_index"

    for other in (TEXT, IMAGE):
        shutil.rmtree(copy / other)
    rewrite(copy, GPT2, break_table)
    with pytest.raises(ArtifactError, match=r"refuses|fails to run"):
        Service(Settings(max_batch=2), load(copy, 1), Metrics())


def test_the_topology_is_not_needed_to_serve(copy: Path) -> None:
    (copy / TEXT / "artifact" / TOPOLOGY).unlink()
    assert json.loads((copy / TEXT / "artifact" / "manifest.json").read_text())["files"]
    assert Family.LUMINANET in load(copy, 1).text
