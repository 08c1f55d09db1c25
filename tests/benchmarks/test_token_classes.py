import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.text import token_classes
from benchmarks.text.models import TextModel
from benchmarks.text.quality import BLOCK, HALF, evaluate
from benchmarks.tinystories.classes import divisions, in_story, main, parts
from luminanet.gpt2 import Gpt2Config
from luminanet.tokenizer import Tokenizer
from tests.datasets import write_stories
from tests.nets import random_gpt2, random_weights, tiny_text_topology, tiny_tokenizer
from training import checkpoint

TEXT = ' Lily saw a dog. She said, "I am Tom!" Then Lily ran home.'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT] * 50, 300)


def named(labels: token_classes.Labels, names: tuple[str, ...]) -> list[str]:
    return [names[label] for label in labels.tolist()]


def test_a_token_is_as_far_back_as_it_stood_last() -> None:
    block = np.array([[7, 7, 1, 7, *range(100, 110), 1, *range(200, 330), 110, 200]])
    labels_KT, names = token_classes.distances(block)
    found = named(labels_KT[0], names)
    assert found[:3] == ["1 to 4 tokens back", "not in sight", "1 to 4 tokens back"]
    assert found[13] == "5 to 16 tokens back"  # the second 1 stands at 14, the first at 2
    assert found[-2:] == ["not in sight", "129 or more"]


def test_ranks_are_of_the_training_counts() -> None:
    counts_V = np.arange(2000)  # the last token is the most frequent
    labels, names = token_classes.frequencies(np.array([1999, 1900, 1899, 1000, 999, 0]), counts_V)
    assert names == ("rank 1 to 100", "rank 101 to 1,000", "rank 1,001 to 2,000")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_words_are_told_by_their_place_in_a_sentence(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.end_id, *tokenizer.encode(TEXT), tokenizer.end_id]
    labels_KT, names = token_classes.kinds(np.array([ids]), tokenizer.to_json())
    found = named(labels_KT[0], names)
    shown = [tokenizer.decode([i]) for i in ids[1:]]
    told = list(zip(shown, found, strict=True))
    assert told[0] == (" Lily", "first word of a sentence")
    assert (" saw", "other word") in told
    assert (" Lily", "name") in told[1:]
    assert (" She", "first word of a sentence") in told
    assert (".", "sign") in told
    assert found[-1] == "end of a story"
    assert all(kind == "quotation mark" for word, kind in told if '"' in word)


def test_every_token_has_one_class_of_each_division_and_the_parts_sum_to_the_gap() -> None:
    text = tiny_tokenizer()
    size = text.vocab_size
    ids_N = np.random.default_rng(0).integers(0, size, BLOCK + 2 * HALF + 5)
    ours = TextModel("a", text.to_json(), "0", random_weights(tiny_text_topology(size)))
    net = random_gpt2(0, Gpt2Config(vocab_size=size, context=BLOCK, width=16, heads=2))
    theirs = TextModel("b", text.to_json(), "1", net)
    found = parts([ours, theirs], ids_N, np.bincount(ids_N, minlength=size))
    whole = evaluate(ours, ids_N).full.loss - evaluate(theirs, ids_N).full.loss
    for division in {part.division for part in found}:
        own = [part for part in found if part.division == division]
        assert sum(part.share for part in own) == pytest.approx(1)
        assert sum(part.gap for part in own) == pytest.approx(whole)


def test_a_story_is_counted_from_its_beginning() -> None:
    block = np.array([[5, 0, *range(1, 40), 0, 9]])
    labels_KT, names = in_story(block, ending=0)
    found = named(labels_KT[0], names)
    assert found[0] == "began before the block"  # the end of the story that was cut
    assert found[1] == "token 0 to 31"
    assert found[33] == "token 32 to 63"
    assert found[-1] == "token 0 to 31"
    assert set(divisions(block, tiny_tokenizer().to_json(), np.ones(400, np.int64))) >= {
        "in its story"
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, text = tmp_path_factory.mktemp("classes"), tiny_tokenizer()
    size = text.vocab_size
    ours = random_weights(tiny_text_topology(size))
    theirs = random_gpt2(0, Gpt2Config(vocab_size=size, context=BLOCK, width=16, heads=2))
    other = Tokenizer.train(["something else"] * 9, 258).to_json()
    for name, words in (("ours", text.to_json()), ("theirs", text.to_json()), ("other", other)):
        net = ours if name == "ours" else theirs
        if name == "other":
            net = random_gpt2(0, Gpt2Config(vocab_size=258, context=BLOCK, width=16, heads=2))
        checkpoint.save(folder / name / "ckpt.pt", checkpoint.Checkpoint(name, net, words))
    write_stories(folder / "data", train=900, validation=60)
    return folder


def test_the_command_writes_a_page_a_picture_and_its_figures(root: Path, tmp_path: Path) -> None:
    words = ["--data", str(root / "data"), "--report", str(tmp_path), "--limit", "700"]
    assert main([str(root / "ours"), str(root / "theirs"), *words]) == 0
    page = (tmp_path / "classes.md").read_text()
    assert "| same token before | not in sight |" in page
    assert "python -m benchmarks.tinystories.classes" in page
    body = json.loads((tmp_path / "classes.json").read_text())
    assert body["models"] == ["ours", "theirs"]
    picture = (tmp_path / "classes.svg").read_text()
    assert "nats a token" in picture
    assert main([str(root / "ours"), str(root / "theirs"), *words]) == 0
    assert (tmp_path / "classes.svg").read_text() == picture


def test_two_tokenizers_do_not_compare(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(root / "data"), "--report", str(tmp_path)]
    assert main([str(root / "ours"), str(root / "other"), *words]) == 2
    assert "different tokenizers" in capsys.readouterr().err
