import math
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks import evaluate as module
from benchmarks.evaluate import cached, evaluate, tables, windowed
from benchmarks.quality import Tally
from benchmarks.report import replace_marked, table
from luminanet import gpt2, reference
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import MODEL
from tests.datasets import write_images, write_stories
from tests.nets import (
    random_gpt2,
    random_weights,
    tiny_text_topology,
    tiny_tokenizer,
    write_tiny_artifacts,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_tiny_artifacts(folder / "artifacts")
    write_images(folder / "data")
    write_stories(folder / "data")
    return folder


def artifact(root: Path, name: str) -> Artifact:
    return Artifact.open(root / "artifacts" / name / "artifact")


def session(root: Path, name: str) -> ort.InferenceSession:
    return ort.InferenceSession(artifact(root, name).read(MODEL))


def test_a_tally_counts_loss_and_hits() -> None:
    tally = Tally()
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]], np.float32))
    tally.add(logits, np.array([0, 2]))
    assert tally.nats == pytest.approx(-math.log(0.7) - math.log(0.25), abs=1e-6)
    assert (tally.first, tally.five, tally.count) == (1, 2, 2)


def test_perplexity_is_of_the_windows_that_end_at_each_token(root: Path) -> None:
    tokenizer = tiny_tokenizer()
    ids = np.array([tokenizer.encode("Once upon a time, there was a dog in the park.")[:20]])
    manifest = artifact(root, "luminanet-tinystories").manifest
    found = list(windowed(session(root, "luminanet-tinystories"), ids, manifest))
    net = random_weights(tiny_text_topology(tokenizer.vocab_size))
    padded = np.pad(ids, ((0, 0), (16, 0)), constant_values=reference.NO_TOKEN)
    for t in (0, 7, 19):
        expected = reference.forward(net, padded[:, t + 1 : t + 17])
        assert np.abs(found[t] - expected).max() < 1e-4


def test_the_baseline_is_measured_through_its_cache(root: Path) -> None:
    size = tiny_tokenizer().vocab_size
    ids = np.random.default_rng(0).integers(0, size, (3, 20))
    manifest = artifact(root, "gpt2-tinystories").manifest
    found = [x.copy() for x in cached(session(root, "gpt2-tinystories"), ids, manifest)]
    net = random_gpt2(0, gpt2.Gpt2Config(vocab_size=size, context=32, width=16, heads=2))
    assert np.abs(np.stack(found, 1) - gpt2.forward(net, ids)).max() < 1e-4


def test_random_networks_are_as_bad_as_chance(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    data = root / "data"
    image = evaluate(artifact(root, "luminanet-cifar10"), data, None)
    assert image.examples == 20
    assert 0 <= image.top1 <= image.top5 <= 1
    text = evaluate(artifact(root, "luminanet-tinystories"), data, None)
    assert text.perplexity > 50
    assert text.bits_per_byte > 2
    report = tables([(artifact(root, "luminanet-tinystories"), text)])
    assert f"{text.perplexity:.2f}" in report


def test_tables_and_marked_places(tmp_path: Path) -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    page = tmp_path / "page.md"
    page.write_text("top\n<!-- x:begin -->\nold\n<!-- x:end -->\nbottom\n")
    replace_marked(page, "x", "new\n")
    assert page.read_text() == "top\n<!-- x:begin -->\nnew\n<!-- x:end -->\nbottom\n"
