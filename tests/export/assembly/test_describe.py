from pathlib import Path

import pytest

from export.assembly.describe import Label, Package, pack
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import Family, Task
from luminanet.errors import ArtifactError, ExportError
from luminanet.frozen import FrozenNet
from luminanet.tokenizer import Tokenizer
from luminanet.topology import Topology
from tests.nets import (
    LABELS,
    frozen,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
    tiny_tokenizer,
    write_tiny_artifacts,
)

IMAGE = random_weights(tiny_image_topology())
TOKENIZER = tiny_tokenizer()
TEXT = random_weights(tiny_text_topology(TOKENIZER.vocab_size))


def packed(net: FrozenNet, label: Label) -> Package:
    return pack(net, frozen(net, form="bus"), label)


def test_an_image_network_carries_topology_and_labels() -> None:
    package = packed(IMAGE, Label("image", classes=LABELS))
    assert package.manifest.task is Task.CLASSIFICATION
    assert package.manifest.labels == LABELS
    assert package.manifest.parameters == IMAGE.topology.parameters
    assert set(package.files) == {"model.onnx", "topology.json", "probes.json"}
    assert Topology.from_json(package.files["topology.json"].decode()) == IMAGE.topology


def test_a_text_network_carries_its_tokenizer() -> None:
    package = packed(TEXT, Label("text", TOKENIZER.to_json()))
    assert package.manifest.task is Task.GENERATION
    assert (package.manifest.context, package.manifest.end_id) == (16, TOKENIZER.end_id)
    stored = Tokenizer.from_json(package.files["tokenizer.json"].decode())
    assert stored.encode("a big dog") == TOKENIZER.encode("a big dog")


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ExportError, match="0 class labels for 10 outputs"):
        packed(IMAGE, Label("image"))


def test_a_missing_or_other_tokenizer_is_refused() -> None:
    with pytest.raises(ExportError, match="has no tokenizer"):
        packed(TEXT, Label("text"))
    with pytest.raises(ArtifactError, match="not a tokenizer"):
        packed(TEXT, Label("text", "{}"))
    small = random_weights(tiny_text_topology(vocab_size=200))
    with pytest.raises(ExportError, match="the network 200"):
        packed(small, Label("small", TOKENIZER.to_json()))


def test_the_tiny_artifacts_can_be_opened(tmp_path: Path) -> None:
    write_tiny_artifacts(tmp_path)
    families = {}
    for name in ("luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories"):
        artifact = Artifact.open(tmp_path / name / "artifact")
        assert artifact.manifest.name == name
        assert artifact.read("model.onnx")
        families[name] = artifact.manifest.family
    assert families["gpt2-tinystories"] is Family.GPT2
