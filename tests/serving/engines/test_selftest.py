"""A server tries its graphs on the artifact's probes, and refuses what computes something else."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from export.assembly.describe import Label
from luminanet.artifact.directory import Artifact, write
from luminanet.artifact.manifest import PROBES, Role, Served
from luminanet.errors import ArtifactError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config
from luminanet.machine import cpu
from serving.__main__ import main
from serving.metrics.families import Metrics
from serving.models.load import load
from serving.service import Service
from serving.settings import Settings
from tests.export.checks.test_probing import damage
from tests.export.precisions.test_precision import image_net, text_net
from tests.nets import random_gpt2, random_weights, tiny_tokenizer, write_artifact

KINDS = ("image", "text", "gpt2")
SETTINGS = Settings(max_batch=8, threads=1)


def wide_text_net(vocab_size: int) -> FrozenNet:
    net = text_net()
    assert isinstance(net, FrozenNet)
    assert isinstance(net.topology.input, TextInput)
    shape = replace(net.topology.input, vocab_size=vocab_size)
    return random_weights(replace(net.topology, input=shape))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of all families in fp32 and int8."""
    root, tokenizer = tmp_path_factory.mktemp("sound"), tiny_tokenizer()
    words = tokenizer.to_json()
    classes = Label("image", classes=tuple(f"class {n}" for n in range(20)))
    write_artifact(root / "image", image_net(), classes, "int8")
    config = Gpt2Config(tokenizer.vocab_size, context=32, width=128, heads=4)
    net = wide_text_net(tokenizer.vocab_size)
    write_artifact(root / "gpt2", random_gpt2(0, config), Label("b", words), "int8", decode=(4,))
    write_artifact(root / "text", net, Label("a", words), "int8", decode=(4,))
    return root


def ratios(service: Service) -> dict[str, float]:
    families = {family.name: family for family in service.metrics.registry.collect()}
    return {
        f"{sample.labels['model']} {sample.labels['task']} {sample.labels['graph']}": sample.value
        for sample in families["luminanet_graph_error_ratio"].samples
    }


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_graph_that_is_served_is_tried_and_its_distance_told(
    precision: Served, sound: Path
) -> None:
    models = load(sound, threads=1, precision=precision)
    found = ratios(Service(SETTINGS, models, Metrics()))
    served = [graph for model in models.all for graph in model.graphs]
    assert len(found) == len(served)
    assert {name.split()[-1] for name in found} == set(served)
    assert all(0 <= ratio < 1 for ratio in found.values()), found
    text = models.text.values()
    assert all(any(Role.DECODE is m.manifest.graphs[g].role for g in m.graphs) for m in text)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_weights_under_hashes_that_fit_are_refused(
    kind: str, precision: Served, sound: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound / kind, tmp_path / "sound")
    (model,) = load(tmp_path, threads=1, precision=precision).all
    for file in model.graphs:
        root = tmp_path / "damaged" / file
        shutil.copytree(sound / kind, root)
        damage(Artifact.open(root), file)
        models = load(root, threads=1, precision=precision)
        with pytest.raises(ArtifactError, match="fails its self-test") as caught:
            Service(SETTINGS, models, Metrics())
        message = str(caught.value)
        assert f"{file} fails its self-test" in message
        assert str(cpu()) in message
        assert "times as far from the numpy reference" in message
        assert ("serve with --precision fp32" in message) == (precision == "int8")
        assert "\n" not in message


def test_a_server_that_refuses_says_so_in_one_line(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sound / "gpt2", tmp_path / "gpt2")
    damage(Artifact.open(tmp_path / "gpt2"), "decode.4.int8-batch.onnx")
    words = ["--artifacts", str(tmp_path), "--port", "0", "--precision", "int8"]
    assert main([*words, "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: b: decode.4.int8-batch.onnx fails its self-test")
    assert said.count("\n") == 1


def test_an_artifact_without_probes_is_refused(sound: Path, tmp_path: Path) -> None:
    found = Artifact.open(sound / "image")
    files = {name: found.read(name) for name in found.manifest.files or {} if name != PROBES}
    write(tmp_path / "image", found.manifest, files)
    with pytest.raises(ArtifactError, match=r"lists no probes.json: freeze the checkpoint again"):
        load(tmp_path, threads=1)


def test_probes_of_another_network_are_refused(sound: Path, tmp_path: Path) -> None:
    found = Artifact.open(sound / "image")
    files = {name: found.read(name) for name in found.manifest.files or {}}
    other = Artifact.open(sound / "text").read(PROBES)
    write(tmp_path / "image", found.manifest, files | {PROBES: other})
    with pytest.raises(ArtifactError, match="probes\\.json is damaged"):
        load(tmp_path, threads=1)
