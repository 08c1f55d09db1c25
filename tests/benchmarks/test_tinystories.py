from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.text import entries as module
from benchmarks.text.entries import Entry
from benchmarks.text.models import TextModel
from benchmarks.text.quality import BLOCK, Figures, TextQuality
from benchmarks.tinystories.__main__ import main, stored
from benchmarks.tinystories.frontier import MARKS, compared, frontier, pairs, summary
from benchmarks.tinystories.plots import draw
from benchmarks.tinystories.stories import SAMPLING, stories
from benchmarks.tinystories.stories import main as write_stories_page
from luminanet import gpt2, reference
from luminanet.artifact.manifest import Family
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.sampling import Sampling, choose
from tests.datasets import write_stories
from tests.nets import (
    random_gpt2,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
    tiny_tokenizer,
)
from training import checkpoint

TOKENIZER = tiny_tokenizer()
SIZE = TOKENIZER.vocab_size
OURS = random_weights(tiny_text_topology(SIZE))
THEIRS = random_gpt2(0, Gpt2Config(vocab_size=SIZE, context=BLOCK, width=16, heads=2))


def known(name: str, bits: float, macs: int, ms: float = 1.0) -> Entry:
    """A figure for everything; GPT-2s are those whose names begin with g."""
    figures = Figures(tokens=100, loss=2 * bits, bits_per_byte=bits, top1=0.5)
    quality = TextQuality(figures, figures, {"0-15": figures})
    is_gpt2 = name.startswith("g")
    family, state = (Family.GPT2, 500_000) if is_gpt2 else (Family.LUMINANET, 1000)
    keys = [f"{k} {p} {b}" for k in ("step", "decode") for p in ("fp32", "int8") for b in (1, 32)]
    times = dict.fromkeys(keys, ms)
    return Entry(
        name, family, name, "t", 300, 1000, macs, state, "s", quality, times, f"make {name}"
    )


# ---------------------------------------------------------------------- pairs


def test_the_rival_is_the_nearest_that_is_as_good_or_better() -> None:
    weak, near, strong = known("g1", 1.0, 10), known("g2", 0.9, 20), known("g3", 0.8, 40)
    ours = [known("a", 0.85, 5), known("b", 0.9, 5), known("c", 0.95, 5), known("d", 0.7, 5)]
    found = {p.ours.name: p for p in pairs(ours, [weak, near, strong])}
    assert [found[n].theirs.name for n in "abcd"] == ["g3", "g2", "g2", "g3"]
    assert [found[n].is_better for n in "abcd"] == [False, False, False, True]
    assert list(found) == ["d", "a", "b", "c"]
    assert pairs(ours, []) == []


def test_ratios_stand_beside_the_marks() -> None:
    ours, theirs = known("a", 0.9, 650, ms=0.5), known("g", 0.9, 1000)
    (pair,) = pairs([ours], [theirs])
    ratios = {mark.name: pair.ratio(mark) for mark in MARKS}
    assert ratios["perplexity"] == 1
    assert ratios["MACs at position 128"] == 0.65
    assert ratios["state after position 255"] == 1 / 500
    assert ratios["ms, int8, batch 32 (decode)"] == 0.5
    table = compared([pair])
    assert "| a | g | **1** | **1** | **0.65** | **1/500** | **0.5** | **0.5** |" in table
    assert "meets all marks" in summary([pair])
    slow = replace(ours, ms={**ours.ms, "step int8 1": 0.95}, macs=700)
    (pair,) = pairs([slow], [theirs])
    missed = summary([pair])
    assert "misses MACs at position 128 0.7, ms, int8, batch 1 (step) 0.95" in missed
    assert "| 0.95 |" in compared([pair])
    (pair,) = pairs([replace(ours, ms={})], [theirs])
    assert "| - |" in compared([pair])


def test_the_frontier_keeps_what_nothing_beats() -> None:
    found = [known("a", 1.0, 10), known("b", 0.9, 20), known("c", 0.95, 30), known("d", 0.8, 30)]
    assert [e.name for e in frontier(found, lambda e: e.macs)] == ["a", "b", "d"]
    assert frontier(found, lambda e: e.ms.get("no such time")) == []


def test_a_plot_names_every_model_and_is_the_same_twice(tmp_path: Path) -> None:
    found = [known("one", 1.0, 10), known("two", 0.9, 20), known("g1", 0.8, 30)]
    for name in ("a.svg", "b.svg"):
        draw(found, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for name in ("one", "two", "g1", "LuminaNet", "bits per byte", "batch 32"):
        assert name in text
    draw([replace(e, ms={}) for e in found[:2]], tmp_path / "a.svg")  # no time to show
    assert ">g1<" in text
    assert ">g1<" not in (tmp_path / "a.svg").read_text()


# ---------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frontier")
    text = TOKENIZER.to_json()
    for name, net in (("ours", OURS), ("theirs", THEIRS)):
        done = checkpoint.Checkpoint(name, net, text, command=f"train {name}")
        checkpoint.save(folder / "runs" / name / "ckpt.pt", done)
    write_stories(folder / "data", train=60, validation=60)
    return folder


def test_the_report_compares_both_families_and_evaluates_a_checkpoint_once(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", str(root / "data"), "--report", str(tmp_path), "--rounds", "1"]
    (root / "runs" / "images").mkdir()
    images = checkpoint.Checkpoint("images", random_weights(tiny_image_topology()))
    checkpoint.save(root / "runs" / "images" / "ckpt.pt", images)
    assert main(["--runs", str(root / "runs"), *words]) == 0
    assert "left out: " in capsys.readouterr().err
    text = (tmp_path / "README.md").read_text()
    assert "| ours | theirs" in text
    assert "* ours: `train ours`" in text
    assert "python -m benchmarks.tinystories" in text
    assert str(root) not in text.replace(f"--runs {root / 'runs'}", "")
    first = stored(tmp_path / "results.json")
    assert [e.name for e in first] == ["ours", "theirs"]
    assert len(first[0].ms) == 8

    def evaluated_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "evaluate", evaluated_again)
    runs = root / "runs"
    given = ["--luminanet", str(runs / "ours"), "--gpt2", str(runs / "theirs" / "ckpt.pt")]
    assert main([*given, *words, "--no-latency"]) == 0
    assert stored(tmp_path / "results.json") == first
    with pytest.raises(AssertionError):
        main([*given, *words, "--no-latency", "--limit", "400"])  # other tokens


def test_times_of_several_runs_are_not_mixed(root: Path, tmp_path: Path) -> None:
    words = ["--data", str(root / "data"), "--report", str(tmp_path), "--rounds", "1"]
    runs = root / "runs"
    assert main(["--gpt2", str(runs / "theirs"), *words]) == 0
    assert stored(tmp_path / "results.json")[0].ms
    assert main(["--runs", str(runs), *words, "--no-latency"]) == 0
    assert not any(e.ms for e in stored(tmp_path / "results.json"))


def test_odd_requests_are_clear_errors(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(root / "data"), "--report", str(tmp_path)]
    assert main(words) == 2
    assert main(["--gpt2", str(root / "runs" / "ours"), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "give some with --luminanet" in lines[0]
    assert "is a luminanet, not a gpt2" in lines[1]


# ---------------------------------------------------------------------- stories


@pytest.mark.parametrize("net", [OURS, THEIRS])
def test_a_story_is_what_the_network_says_whatever_its_company(net: FrozenNet | Gpt2Net) -> None:
    model = TextModel("x", TOKENIZER.to_json(), "0", net)
    prompts = ["Once upon a time, Lily", "Tom", "She liked to play"]
    found = stories(model, prompts, tokens=6)
    for row, prompt in enumerate(prompts):
        text = TOKENIZER.encode(prompt)
        begun = len(text)
        while len(text) < begun + 6 and text[-1] != TOKENIZER.end_id:
            if isinstance(net, FrozenNet):
                window = ([reference.NO_TOKEN] * 16 + text)[-16:]
                logits = reference.forward(net, np.array([window]))[0]
            else:
                logits = gpt2.forward(net, np.array([text]))[0, -1]
            sampling = Sampling(SAMPLING.temperature, top_p=SAMPLING.top_p, seed=row)
            text.append(choose(logits, text, sampling, len(text) - begun).id)
        assert found[row] == TOKENIZER.decode([i for i in text if i != TOKENIZER.end_id])


def test_a_story_ends_where_the_cache_is_full() -> None:
    config = Gpt2Config(vocab_size=SIZE, context=12, width=16, heads=2)
    short = TextModel("x", TOKENIZER.to_json(), "0", random_gpt2(0, config))
    (story,) = stories(short, ["Once upon a time"], tokens=50)
    assert story.startswith("Once upon a time")
    assert len(TOKENIZER.encode("Once upon a time")) < 12


def test_the_page_shows_ten_stories_of_each_model(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "stories.md"
    models = [str(root / "runs" / name) for name in ("ours", "theirs")]
    assert write_stories_page([*models, "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("> **") == 20
    assert "## ours" in text
    assert write_stories_page([*models, "--out", str(tmp_path / "again.md")]) == 0
    body, again = (
        page.read_text().rsplit("`python", 1)[0] for page in (out, tmp_path / "again.md")
    )
    assert body == again
