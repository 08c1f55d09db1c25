"""Examples come from held-out training data, and freezing takes them."""

from pathlib import Path

import pytest

from benchmarks import examples
from export.checks.examples import load
from export.freeze import main as freeze
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import Role
from luminanet.gpt2 import Gpt2Config
from tests.datasets import write_images, write_stories
from tests.nets import (
    LABELS,
    random_gpt2,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
    tiny_tokenizer,
)
from training.checkpoint import Checkpoint, save

WORDS = tiny_tokenizer()
GPT2 = Gpt2Config(vocab_size=WORDS.vocab_size, context=256, width=32, heads=4)


@pytest.mark.parametrize("kind", ["image", "text", "gpt2"])
def test_a_network_is_frozen_with_examples_of_its_data(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "data", train=600)
    write_stories(tmp_path / "data", train=400)
    checkpoint = {
        "image": Checkpoint("a", random_weights(tiny_image_topology()), labels=LABELS),
        "text": Checkpoint(
            "a", random_weights(tiny_text_topology(WORDS.vocab_size)), WORDS.to_json()
        ),
        "gpt2": Checkpoint("a", random_gpt2(0, GPT2), WORDS.to_json()),
    }[kind]
    save(tmp_path / "ckpt.pt", checkpoint)
    monkeypatch.setattr(examples, "CALIBRATION_IMAGES", 2)
    monkeypatch.setattr(examples, "CALIBRATION_BLOCKS", 1)
    monkeypatch.setattr(examples, "EXAMPLES", 600)
    out = tmp_path / "examples.npz"
    arguments = [str(tmp_path), "--data", str(tmp_path / "data"), "--out", str(out)]
    assert examples.main(arguments) == 0
    found = load(out, checkpoint.net)
    assert len(found.inputs) == len(found.targets) > 0
    assert found.feeds
    assert (found.bytes_per_token > 0) is (kind != "image")
    assert (
        freeze([str(tmp_path / "ckpt.pt"), "--precision", "int8,qdq", "--examples", str(out)]) == 0
    )
    graphs = Artifact.open(tmp_path / "artifact").manifest.graphs.values()
    told = [entry.examples["examples"] for entry in graphs if entry.role is Role.LOGITS]
    assert len(told) >= 4
    assert set(told) == {found.targets.size}


def test_too_little_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "data", train=600)
    net = random_weights(tiny_image_topology())
    save(tmp_path / "ckpt.pt", Checkpoint("a", net, labels=LABELS))
    assert examples.main([str(tmp_path), "--data", str(tmp_path / "data")]) == 2
    assert "use the whole data set" in capsys.readouterr().err
