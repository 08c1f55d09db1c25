"""Probes of real networks, and an artifact that is tried on them by hand."""

from pathlib import Path
from shutil import copytree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.integers import PLAIN
from export.assembly.describe import Label
from export.checks import probing
from export.graph.session import CUDA, Session
from export.precisions.convert import convert
from export.precisions.rewrite import graphs
from export.precisions.saturation import saturating
from export.show import main
from luminanet import gpt2, reference
from luminanet.artifact.directory import Artifact, write
from luminanet.artifact.manifest import MODEL, Precision
from luminanet.errors import DeviceError
from luminanet.gpt2 import Gpt2Config
from tests.export.precisions.test_precision import NETS, image_net, text_net
from tests.nets import random_gpt2, tiny_tokenizer, write_artifact

TOKENIZER = tiny_tokenizer()
TEXT = Label("text", TOKENIZER.to_json())


def artifact(out: Path, kind: str, precisions: str = "fp32,int8") -> Artifact:
    net = NETS[kind]()
    classes = tuple(f"class {n}" for n in range(20))
    label = Label("image", classes=classes) if kind == "image" else TEXT
    write_artifact(out, net, label, precisions, decode=() if kind == "image" else (2,))
    return Artifact.open(out)


def damage(at: Artifact, file: str) -> None:
    """Changes the sign of one in ten weights of a graph, under hashes that fit."""
    files = {name: at.read(name) for name in at.manifest.files or {}}
    model = onnx.load_model_from_string(files[file])
    for tensor in (tensor for graph in graphs(model.graph) for tensor in graph.initializer):
        array = numpy_helper.to_array(tensor).copy()
        if array.size > 1000 and array.dtype in (np.float32, np.int8, np.uint8):
            array.reshape(-1)[::10] = 0 - array.reshape(-1)[::10]
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    write(at.directory, at.manifest, files | {file: model.SerializeToString()})


def test_probes_of_images_are_answered_by_the_reference() -> None:
    net = image_net()
    found = probing.take(net)
    np.testing.assert_array_equal(found.logits, reference.forward(net, found.images))  # type: ignore[arg-type]
    assert found.drawn.shape == (len(found.inputs), 0)


def test_probes_of_text_go_on_greedily() -> None:
    net = text_net()
    found = probing.take(net)
    text = found.inputs
    for step in range(found.drawn.shape[1]):
        logits = reference.forward(net, text[:, -32:])  # type: ignore[arg-type]
        assert (logits.argmax(1) == found.drawn[:, step]).all()
        text = np.hstack([text, found.drawn[:, step : step + 1]])
    assert (found.inputs == reference.NO_TOKEN).any(), "a window that is not full"


@pytest.mark.parametrize(("context", "tokens", "drawn"), [(1, 1, 1), (9, 8, 2), (64, 8, 4)])
def test_probes_of_a_gpt2_fit_its_context(context: int, tokens: int, drawn: int) -> None:
    net = random_gpt2(0, Gpt2Config(vocab_size=50, context=context, width=16, heads=2))
    found = probing.take(net)
    assert found.inputs.shape[1] == tokens
    assert found.drawn.shape[1] == drawn
    np.testing.assert_array_equal(found.logits, gpt2.forward(net, found.inputs)[:, -1])


def test_the_same_network_is_asked_the_same() -> None:
    for net in NETS.values():
        assert probing.take(net()).to_json() == probing.take(net()).to_json()


@pytest.mark.parametrize("kind", NETS)
def test_every_graph_of_a_sound_artifact_is_within_its_bound(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = artifact(tmp_path / "a", kind)
    tried = list(probing.check(found))
    assert [one.file for one in tried] == list(found.manifest.graphs)
    assert all(one.ratio is not None and 0 <= one.ratio < 1 for one in tried), tried
    assert main([str(tmp_path / "a"), "--check"]) == 0
    assert capsys.readouterr().out.count("within its bound") == len(tried)


@pytest.mark.parametrize("kind", NETS)
def test_every_graph_that_was_damaged_is_told(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = artifact(tmp_path / "a", kind)
    files = list(sound.manifest.graphs)
    for file in files:
        copytree(sound.directory, tmp_path / file)
        damage(Artifact.open(tmp_path / file), file)
        assert main([str(tmp_path / file), "--check"]) == 1
        lines = capsys.readouterr().out.splitlines()
        told = [line.split()[0] for line in lines if "OUTSIDE its bound" in line]
        assert file in told
        assert set(told) <= {file, *(f for f in files if file == MODEL and f.startswith("decode"))}


def test_weights_that_saturate_are_found_by_probes(tmp_path: Path) -> None:
    at, file = artifact(tmp_path / "a", "gpt2"), "model.int8-batch.onnx"
    plain = onnx.load_model_from_string(at.read(MODEL))
    made = saturating(convert(plain, Precision.INT8_BATCH, how=PLAIN))
    files = {name: at.read(name) for name in at.manifest.files or {}}
    write(at.directory, at.manifest, files | {file: made.SerializeToString()})
    ratios = {one.file: one.ratio or 0.0 for one in probing.check(Artifact.open(at.directory))}
    assert ratios[file] > 1


def test_graphs_for_tensorrt_are_left_to_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact(tmp_path / "a", "image", "fp32,fp16")
    assert main([str(tmp_path / "a"), "--check"]) == 0
    assert "model.fp16.onnx             not run: it is for TensorRT" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU")
    at = artifact(tmp_path / "a", "image")
    assert main([str(tmp_path / "a"), "--check", "--device", "cuda"]) == 2
    assert "onnxruntime has no CUDAExecutionProvider here" in capsys.readouterr().err
    with pytest.raises(DeviceError):
        Session(onnx.load_model_from_string(at.read(MODEL)), provider=CUDA)
