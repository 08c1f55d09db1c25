"""Configurations are parsed with Triton's own schema, whole: its descriptor lies beside this file,
so that neither Triton's client (which asks for older libraries than ours) nor a protobuf compiler
is needed."""

import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from export.assembly.describe import Label
from export.gpu.triton_config import TritonOptions, configuration, plan_configuration
from export.graph.builder import Graph
from export.triton_repository import main, triton_repository
from luminanet.artifact.directory import Artifact
from luminanet.artifact.directory import write as write_artifact
from luminanet.artifact.manifest import FileEntry
from luminanet.artifact.tensorrt_plan import PlanInfo, Profile, beside
from luminanet.errors import ArtifactError, ConfigError, ExportError
from tests.nets import (
    LABELS,
    random_gpt2,
    random_weights,
    tiny_text_topology,
    tiny_tokenizer,
    write_tiny_artifacts,
)
from tests.nets import write_artifact as write_net

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).with_name("triton_model_config.textproto")
KIND_GPU, KIND_AUTO = 1, 0
NAMES = ("luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories")


@cache
def config_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(SCHEMA.read_text(), descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def parsed(text: str) -> Any:
    """Raises text_format.ParseError for what Triton does not know."""
    return text_format.Parse(text, config_class()())


def types(ports: Any) -> dict[str, tuple[str, list[int]]]:
    """Port -> its type by name, and its dimensions."""
    field = config_class().DESCRIPTOR.fields_by_name["input"].message_type
    kinds = field.fields_by_name["data_type"].enum_type.values_by_number
    return {port.name: (kinds[port.data_type].name, list(port.dims)) for port in ports}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    write_tiny_artifacts(root)
    return root


def info_for(artifact: Path, module: str, data: bytes) -> PlanInfo:
    graph = hashlib.sha256((artifact / "model.onnx").read_bytes()).hexdigest()
    plan = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
    profiles = (Profile(1, 8, 32), Profile(1, 1, 1))
    return PlanInfo(graph, module, "11.4.0", ("9.0",), profiles, {}, plan)


def test_the_schema_refuses_what_triton_does_not_know() -> None:
    with pytest.raises(text_format.ParseError):
        parsed('name: "a" max_batch: 3')
    with pytest.raises(text_format.ParseError):
        parsed("input [ { data_type: TYPE_FLOAT } ]")


def test_an_image_network_is_batched_and_names_its_classes(artifacts: Path, tmp_path: Path) -> None:
    (folder,) = triton_repository(artifacts / NAMES[0] / "artifact", tmp_path / "repository")
    config = parsed((folder / "config.pbtxt").read_text())
    assert (config.name, folder.name, config.backend) == (NAMES[0], NAMES[0], "onnxruntime")
    assert types(config.input) == {"images": ("TYPE_FP32", [3, 32, 32])}
    assert types(config.output) == {"logits": ("TYPE_FP32", [10])}
    assert config.max_batch_size == 64
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.instance_group[0].kind == KIND_AUTO
    names = (folder / config.output[0].label_filename).read_text().splitlines()
    assert tuple(names) == LABELS
    graph = (artifacts / NAMES[0] / "artifact" / "model.onnx").read_bytes()
    assert (folder / "1" / "model.onnx").read_bytes() == graph


def test_a_text_network_reads_windows(artifacts: Path, tmp_path: Path) -> None:
    (folder,) = triton_repository(artifacts / NAMES[1] / "artifact", tmp_path)
    config = parsed((folder / "config.pbtxt").read_text())
    assert types(config.input) == {"token_ids": ("TYPE_INT64", [16])}
    assert config.HasField("dynamic_batching")
    assert not (folder / "labels.txt").exists()


def test_prompts_of_different_lengths_are_not_joined(artifacts: Path, tmp_path: Path) -> None:
    (folder,) = triton_repository(artifacts / NAMES[2] / "artifact", tmp_path)
    config = parsed((folder / "config.pbtxt").read_text())
    assert types(config.input) == {
        "token_ids": ("TYPE_INT64", [-1]),
        "past_lengths": ("TYPE_INT32", [1]),
        "past_keys.0": ("TYPE_FP32", [2, 32, 8]),
        "past_values.0": ("TYPE_FP32", [2, 32, 8]),
    }
    reshaped = {
        port.name: list(port.reshape.shape) for port in config.input if port.HasField("reshape")
    }
    assert reshaped == {"past_lengths": []}
    assert not config.HasField("dynamic_batching")
    assert config.max_batch_size == 64


def test_a_graph_without_a_batch_is_served_as_it_is() -> None:
    graph = Graph("one")
    graph.node("Neg", [graph.input("x", np.float16, [1, "n"])], "y")
    graph.output("y", np.float16, [1, "n"])
    config = parsed(configuration("one", "onnxruntime", graph.build().graph, TritonOptions()))
    assert config.max_batch_size == 0
    assert types(config.input) == {"x": ("TYPE_FP16", [1, -1])}


def test_a_plan_is_a_second_model_on_a_gpu(artifacts: Path, tmp_path: Path) -> None:
    artifact = copied(artifacts / NAMES[0] / "artifact", tmp_path / "artifact")
    plan = artifact / "model.plan"
    plan.write_bytes(b"plan")
    beside(plan).write_text(info_for(artifact, "tensorrt", b"plan").to_json())
    _, folder = triton_repository(artifact, tmp_path / "repository", TritonOptions(128))
    text = (folder / "config.pbtxt").read_text()
    config = parsed(text)
    assert (config.name, folder.name) == (f"{NAMES[0]}-tensorrt",) * 2
    assert (config.backend, config.max_batch_size) == ("tensorrt", 32)
    assert config.instance_group[0].kind == KIND_GPU
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert config.optimization.cuda.graphs
    assert "TensorRT 11.4.0" in text
    assert (folder / "1" / "model.plan").read_bytes() == b"plan"


def test_a_plan_that_triton_cannot_run_is_left_out(artifacts: Path, tmp_path: Path) -> None:
    artifact = copied(artifacts / NAMES[0] / "artifact", tmp_path / "artifact")
    plan = artifact / "model.plan"
    plan.write_bytes(b"plan")
    info = info_for(artifact, "tensorrt_rtx", b"plan")
    beside(plan).write_text(info.to_json())
    assert len(triton_repository(artifact, tmp_path / "repository")) == 1
    graph = onnx.load(artifact / "model.onnx").graph
    with pytest.raises(ExportError, match="--module tensorrt"):
        plan_configuration("a", graph, info, TritonOptions())
    high = replace(info, module="tensorrt", profiles=(Profile(2, 2, 2),))
    with pytest.raises(ExportError, match="batch of 1"):
        plan_configuration("a", graph, high, TritonOptions())


def test_a_plan_of_another_graph_is_refused_before_anything_is_written(
    artifacts: Path, tmp_path: Path
) -> None:
    artifact = copied(artifacts / NAMES[0] / "artifact", tmp_path / "artifact")
    info = replace(info_for(artifact, "tensorrt", b"plan"), onnx_sha256="0" * 64)
    (artifact / "model.plan").write_bytes(b"plan")
    beside(artifact / "model.plan").write_text(info.to_json())
    with pytest.raises(ArtifactError, match="another"):
        triton_repository(artifact, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def copied(source: Path, target: Path) -> Path:
    artifact = Artifact.open(source)
    files = {name: artifact.read(name) for name in artifact.manifest.files or {}}
    write_artifact(target, artifact.manifest, files)
    return target


def test_writing_again_replaces_the_model_and_nothing_else(artifacts: Path, tmp_path: Path) -> None:
    (first,) = triton_repository(artifacts / NAMES[0] / "artifact", tmp_path)
    before = {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()}
    (first / "1" / "old").write_text("old")
    triton_repository(artifacts / NAMES[0] / "artifact", tmp_path)
    after = {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()}
    assert before == after
    assert [p.name for p in tmp_path.iterdir()] == [NAMES[0]]


def test_a_model_that_cannot_be_replaced_stays(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, out = artifacts / NAMES[0] / "artifact", tmp_path / "repository"
    (folder,) = triton_repository(artifact, out)
    (folder / "1" / "old").write_text("old")
    plain = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == folder and self.name == "new":
            raise OSError("disk gone")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk gone"):
        triton_repository(artifact, out)
    assert (folder / "1" / "old").read_text() == "old"
    assert [p.name for p in tmp_path.rglob("*") if p.parent in (tmp_path, out)] == [
        *("repository", NAMES[0])
    ]


@pytest.mark.parametrize("moment", ["write_bytes", "rename"])
def test_a_run_that_is_killed_leaves_no_half_model(
    moment: str, artifacts: Path, tmp_path: Path
) -> None:
    code = f"""
import os, pathlib
from export.triton_repository import triton_repository
pathlib.Path.{moment} = lambda *_, **__: os._exit(9)
triton_repository(pathlib.Path({str(artifacts / NAMES[0] / "artifact")!r}), pathlib.Path("out"))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 9
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("link", ["repository", "model", "nothing"])
def test_links_stay_and_what_they_name_is_replaced(
    link: str, artifacts: Path, tmp_path: Path
) -> None:
    real, out = tmp_path / "real", tmp_path / "out"
    if link == "model":
        triton_repository(artifacts / NAMES[0] / "artifact", tmp_path / "made")
        (tmp_path / "made" / NAMES[0]).rename(real)
        out.mkdir()
        (out / NAMES[0]).symlink_to("../real")
    else:
        out.symlink_to("real")
    if link == "repository":
        real.mkdir()
    for _ in range(2):
        (folder,) = triton_repository(artifacts / NAMES[0] / "artifact", out)
        assert folder == out / NAMES[0]
        assert (folder / "config.pbtxt").is_file()
    assert (out if link != "model" else out / NAMES[0]).is_symlink()
    model = real if link == "model" else real / NAMES[0]
    names = ["1", "config.pbtxt", "labels.txt"]
    assert sorted(path.name for path in model.iterdir()) == names
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EBUSY])
def test_a_mounted_repository_and_a_mounted_model_are_written(
    number: int, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXDEV: the repository is mounted from the file system around it; EBUSY: its model is."""
    out, artifact = tmp_path / "out", artifacts / NAMES[0] / "artifact"
    folder = out / NAMES[0]
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text("old")
    plain = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        crosses = self.is_relative_to(out) != Path(target).is_relative_to(out)
        if crosses if number == errno.EXDEV else folder in (self, Path(target)):
            raise OSError(number, os.strerror(number), str(self))
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    assert triton_repository(artifact, out) == (folder,)
    assert parsed((folder / "config.pbtxt").read_text()).name == NAMES[0]
    assert (folder / "1" / "model.onnx").read_bytes() == (artifact / "model.onnx").read_bytes()
    assert [path.name for path in (*tmp_path.iterdir(), *out.iterdir())] == ["out", NAMES[0]]


def test_a_gpt2_has_its_plan_of_the_graph_that_tensorrt_reads(tmp_path: Path) -> None:
    tokenizer, artifact = tiny_tokenizer(), tmp_path / "artifact"
    net = random_gpt2(0, replace(random_gpt2(0).config, vocab_size=tokenizer.vocab_size))
    write_net(artifact, net, Label("gpt2", tokenizer.to_json()), tensorrt=True)
    graph = hashlib.sha256((artifact / "model.tensorrt.onnx").read_bytes()).hexdigest()
    plan = artifact / "model.tensorrt.plan"
    plan.write_bytes(b"plan")
    info = info_for(artifact, "tensorrt", b"plan")
    info = replace(info, onnx_sha256=graph, sizes={"steps": 1}, model="model.tensorrt.onnx")
    beside(plan).write_text(info.to_json())
    first, second = triton_repository(artifact, tmp_path / "out")
    assert (first / "1" / "model.onnx").read_bytes() == (artifact / "model.onnx").read_bytes()
    assert (second.name, (second / "1" / "model.plan").read_bytes()) == ("gpt2-tensorrt", b"plan")
    config = parsed((second / "config.pbtxt").read_text())
    assert types(config.input)["token_ids"] == ("TYPE_INT64", [1])
    assert config.HasField("dynamic_batching")


def test_a_folder_of_something_else_is_not_replaced(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).mkdir()
    (tmp_path / NAMES[0] / "thesis.txt").write_text("dear")
    with pytest.raises(ExportError, match="choose another folder"):
        triton_repository(artifacts / NAMES[0] / "artifact", tmp_path)
    assert (tmp_path / NAMES[0] / "thesis.txt").read_text() == "dear"


def test_an_empty_folder_of_the_name_is_filled(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).mkdir()
    (folder,) = triton_repository(artifacts / NAMES[0] / "artifact", tmp_path)
    assert (folder / "config.pbtxt").is_file()


def test_nothing_is_written_when_one_of_two_folders_is_of_something_else(
    artifacts: Path, tmp_path: Path
) -> None:
    artifact = copied(artifacts / NAMES[0] / "artifact", tmp_path / "artifact")
    data = b"plan"
    (artifact / "model.plan").write_bytes(data)
    beside(artifact / "model.plan").write_text(info_for(artifact, "tensorrt", data).to_json())
    other = tmp_path / "out" / f"{NAMES[0]}-tensorrt"
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("dear")
    with pytest.raises(ExportError, match="choose another folder"):
        triton_repository(artifact, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [other.name]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", 'a"b', "a b"])
def test_names_that_are_no_folders_are_refused(name: str, artifacts: Path, tmp_path: Path) -> None:
    artifact = Artifact.open(artifacts / NAMES[0] / "artifact")
    files = {file: artifact.read(file) for file in artifact.manifest.files or {}}
    write_artifact(tmp_path / "artifact", replace(artifact.manifest, name=name), files)
    with pytest.raises(ExportError, match="plain name"):
        triton_repository(tmp_path / "artifact", tmp_path / "out")


@settings(max_examples=50)
@given(st.text())
def test_names_of_tensors_are_quoted(name: str) -> None:
    graph = Graph("one")
    graph.node("Neg", [graph.input("x", np.float32, ["batch", 2])], "y")
    graph.output("y", np.float32, ["batch", 2])
    model = graph.build()
    model.graph.input[0].name = name
    text = configuration("one", "onnxruntime", model.graph, TritonOptions())
    assert parsed(text).input[0].name == name


def test_the_command_prints_what_it_wrote(
    artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, out = artifacts / NAMES[0] / "artifact", tmp_path / "repository"
    assert main([str(artifact), str(out), "--max-batch", "8"]) == 0
    assert capsys.readouterr().out == f"{out / NAMES[0]}\n"
    assert parsed((out / NAMES[0] / "config.pbtxt").read_text()).max_batch_size == 8
    assert main([str(tmp_path), str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("values", [(0, 0), (1, -1), (1 << 31, 0)])
def test_options_that_make_no_sense_are_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        TritonOptions(*values)


def test_a_graph_that_decodes_is_not_for_triton(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    net = random_weights(tiny_text_topology(tokenizer.vocab_size))
    write_net(tmp_path / "text", net, Label("text", tokenizer.to_json()), decode=(4,))
    with pytest.raises(ExportError, match=r"between its calls: choose model\.onnx"):
        triton_repository(tmp_path / "text", tmp_path / "out", model="decode.onnx")
    assert not (tmp_path / "out").exists()
    assert triton_repository(tmp_path / "text", tmp_path / "out")
