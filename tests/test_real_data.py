"""On the real data sets, when LUMINANET_DATA names their folder: what is shipped works on them."""

import os
from pathlib import Path

import pytest

from benchmarks.evaluate import evaluate
from luminanet.artifact.directory import Artifact
from training.checkpoint import load
from training.data.corpus import Corpus, open_corpus
from training.data.datasets import load_images, load_stories
from training.presets import TEXT_PRESETS

FOLDER = Path(os.environ.get("LUMINANET_DATA", ""))
PRETRAINED = Path(__file__).parent.parent / "pretrained"

pytestmark = pytest.mark.skipif(
    not os.environ.get("LUMINANET_DATA"), reason="LUMINANET_DATA is not set"
)


def test_the_loaders_read_the_real_files() -> None:
    test = load_images(FOLDER, "test")
    assert len(test) == 10_000
    assert set(test.labels_N.tolist()) == set(range(10))
    stories = load_stories(FOLDER, "validation")
    assert len(stories) > 500
    assert sum("Once upon a time" in story for story in stories) > len(stories) / 4


def test_the_shipped_classifier_knows_most_test_images() -> None:
    artifact = Artifact.open(PRETRAINED / "luminanet-cifar10" / "artifact")
    assert evaluate(artifact, FOLDER, limit=1000).top1 > 0.65


@pytest.mark.parametrize("name", ["luminanet-tinystories", "gpt2-tinystories"])
def test_the_shipped_text_models_predict_stories(name: str) -> None:
    artifact = Artifact.open(PRETRAINED / name / "artifact")
    assert evaluate(artifact, FOLDER, limit=40).perplexity < 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    size = TEXT_PRESETS["tinystories"].vocab_size
    return open_corpus(FOLDER, None, size, tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("name", ["luminanet-tinystories", "gpt2-tinystories"])
def test_the_shipped_tokenizer_is_the_one_that_training_makes(name: str, made: Corpus) -> None:
    shipped = load(PRETRAINED / name / "ckpt.pt").tokenizer
    assert made.tokenizer.to_json() == shipped
