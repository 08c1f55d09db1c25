import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

from luminanet.errors import DataError
from luminanet.tokenizer import LONGEST_RUN, Tokenizer
from tests.nets import SENTENCES, tiny_tokenizer
from training.data import corpus as module
from training.data.batches import HELD_OUT_TOKENS, TextSource, held_out_tokens
from training.data.corpus import Corpus, open_corpus, sample
from training.data.datasets import load_stories, read, story_files, tokenize
from training.data.tables import Columns
from training.presets import TEXT_PRESETS

SIZE = 300


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """Twelve stories in two files, the second with row groups of two."""
    folder = tmp_path / "stories"
    folder.mkdir()
    texts = [f"{sentence} {number} times." for number in range(3) for sentence in SENTENCES]
    first = pyarrow.table({"text": texts[:5]})
    pq.write_table(first, folder / "train-00000.parquet", compression="none")
    rest = pyarrow.table({"text": texts[5:]})
    pq.write_table(rest, folder / "train-00001.parquet", row_group_size=2)
    return folder


def made(folder: Path, cache: Path | None, tokenizer: Path | None = None) -> Corpus:
    return open_corpus(folder, tokenizer, SIZE, cache)


def when(cache: Path) -> int:
    return (cache / "tokens.bin").stat().st_mtime_ns


@pytest.mark.parametrize("named", [True, False])
def test_the_file_holds_what_tokenizing_everything_at_once_gives(
    stories: Path, tmp_path: Path, named: bool
) -> None:
    texts = load_stories(stories, "train")
    tokenizer = Tokenizer.train(texts, SIZE)
    expected = tokenize(texts, tokenizer)
    found = made(stories, tmp_path / "run" if named else None)
    assert found.tokenizer.to_json() == tokenizer.to_json()
    assert found.tokens.ids_N.dtype == np.uint16
    assert found.tokens.ids_N.tolist() == expected.ids_N.tolist()
    assert found.tokens.bytes == expected.bytes


def test_batches_are_those_of_tokens_in_memory(stories: Path, tmp_path: Path) -> None:
    found = made(stories, tmp_path)
    texts = load_stories(stories, "train")
    config = TEXT_PRESETS["gpt2"].having(batch=4, context=16, held_out=0.1)
    ours, plain = (
        TextSource(tokens, config) for tokens in (found.tokens, tokenize(texts, found.tokenizer))
    )
    for step in range(5):
        assert ours.batch(step).inputs.equal(plain.batch(step).inputs)
        assert ours.batch(step).targets.equal(plain.batch(step).targets)
    assert ours.held_out[0].targets.equal(plain.held_out[0].targets)


def test_a_second_start_finds_the_tokens_of_the_first(stories: Path, tmp_path: Path) -> None:
    first = made(stories, tmp_path / "run")
    before = when(tmp_path / "run")
    copied = Path(shutil.copytree(stories, tmp_path / "elsewhere"))
    again = made(copied, tmp_path / "run")
    assert when(tmp_path / "run") == before
    assert again.tokens.ids_N.tolist() == first.tokens.ids_N.tolist()
    assert again.tokenizer.to_json() == first.tokenizer.to_json()


def test_tokens_of_other_stories_are_never_taken(stories: Path, tmp_path: Path) -> None:
    first = made(stories, tmp_path / "run")
    path = stories / "train-00000.parquet"
    was = path.stat()
    table = pq.read_table(path)
    texts = [text.replace("Lily", "Lila") for text in table["text"].to_pylist()]
    pq.write_table(pyarrow.table({"text": texts}), path, compression="none")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size  # by name, size and time, nothing has happened
    again = made(stories, tmp_path / "run")
    text = again.tokenizer.decode(again.tokens.ids_N.tolist())
    assert "Lila" in text
    assert "Lila" not in first.tokenizer.decode(first.tokens.ids_N.tolist())


def test_tokens_of_another_tokenizer_are_never_taken(stories: Path, tmp_path: Path) -> None:
    first = made(stories, tmp_path)
    given = tmp_path / "tokenizer.json"
    given.write_text(tiny_tokenizer().to_json())
    again = made(stories, tmp_path, given)
    assert again.tokenizer.to_json() == tiny_tokenizer().to_json() != first.tokenizer.to_json()
    assert again.tokens.ids_N.tolist() != first.tokens.ids_N.tolist()


@pytest.mark.parametrize(
    "damage", ["cut", "longer", "other tokens", "no json", "odd json", "deep json", "killed"]
)
def test_what_a_killed_run_left_is_made_anew(stories: Path, tmp_path: Path, damage: str) -> None:
    first = made(stories, tmp_path).tokens.ids_N.tolist()
    match damage:
        case "cut":
            os.truncate(tmp_path / "tokens.bin", 10)
        case "longer":
            os.truncate(tmp_path / "tokens.bin", 2 * len(first) + 2)
        case "other tokens":
            content = bytearray((tmp_path / "tokens.bin").read_bytes())
            content[7] ^= 1
            (tmp_path / "tokens.bin").write_bytes(content)
        case "deep json":
            (tmp_path / "tokens.json").write_text("[" * 100_000)
        case "no json":
            (tmp_path / "tokens.json").unlink()
        case "odd json":
            raw = json.loads((tmp_path / "tokens.json").read_text())
            (tmp_path / "tokens.json").write_text(json.dumps(raw | {"count": "many"}))
        case "killed":
            (tmp_path / "tokens.json").unlink()
            (tmp_path / "tokens.bin").rename(tmp_path / ".tokens.bin")
    assert made(stories, tmp_path).tokens.ids_N.tolist() == first
    assert not (tmp_path / ".tokens.bin").exists()


def test_of_several_at_once_one_makes_the_tokens(stories: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: made(stories, tmp_path), range(4)))
    assert len({tuple(one.tokens.ids_N.tolist()) for one in found}) == 1


def test_a_tokenizer_learns_from_every_kth_story_of_many(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, files = load_stories(stories, "train"), story_files(stories, "train")
    assert list(sample(files)) == texts
    monkeypatch.setattr(module, "SAMPLE_STORIES", 4)
    assert list(sample(files)) == texts[::3]
    monkeypatch.setattr(module, "SAMPLE_STORIES", 5)
    assert list(sample(files)) == texts[::3]
    wanted = Tokenizer.train(texts[::3], SIZE).to_json()
    assert made(stories, tmp_path).tokenizer.to_json() == wanted


def test_more_than_65536_ids_fit(stories: Path, tmp_path: Path) -> None:
    raw = json.loads(tiny_tokenizer().to_json())
    letters = sorted((t for t in raw["model"]["vocab"] if len(t) == 1), key="e".__eq__)
    pairs = list(product(letters, letters))
    tokens = ["<|endoftext|>", *letters, *(one + two for one, two in pairs)]
    raw["model"] |= {"vocab": {t: number for number, t in enumerate(tokens)}, "merges": pairs}
    given = tmp_path / "tokenizer.json"
    given.write_text(json.dumps(raw))
    words = Tokenizer.from_json(given.read_text())
    found = made(stories, tmp_path / "run", given)
    assert found.tokens.ids_N.max() > 65535
    assert found.tokens.ids_N.dtype == np.uint32
    expected = tokenize(load_stories(stories, "train"), words)
    assert found.tokens.ids_N.tolist() == expected.ids_N.tolist()


def test_stories_come_some_at_a_time(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.datasets.STORIES_AT_ONCE", 2)
    parts = list(read(story_files(stories, "train")))
    assert max(map(len, parts)) == 2
    assert [text for part in parts for text in part] == load_stories(stories, "train")


def test_no_more_is_held_out_of_much_data() -> None:
    config = TEXT_PRESETS["gpt2"]
    assert held_out_tokens(3_400_000, config) == 136_000
    assert held_out_tokens(500_000_000, config) == HELD_OUT_TOKENS
    assert held_out_tokens(1000, config) == config.context + 1


def test_what_cannot_be_made_is_a_clear_error(stories: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot hold the tokens"):
        made(stories, blocked / "run")
    empty = tmp_path / "empty"
    empty.mkdir()
    pq.write_table(pyarrow.table({"text": pyarrow.array([], "string")}), empty / "train.parquet")
    for cache in (None, tmp_path / "run"):
        with pytest.raises(DataError, match="there is no story"):
            made(empty, cache)
    with pytest.raises(DataError, match="check --tokenizer"):
        made(stories, None, tmp_path / "nowhere.json")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b"no JSON"])
def test_a_tokenizer_that_is_none_is_told_with_its_file(
    stories: Path, tmp_path: Path, content: bytes
) -> None:
    given = tmp_path / "tokenizer.json"
    given.write_bytes(content)
    with pytest.raises(DataError) as caught:
        made(stories, None, given)
    assert str(caught.value).startswith(f"the tokenizer {given} is damaged, or none: ")
    assert "\n" not in str(caught.value)


def test_null_stories_leave_no_token_and_are_counted_once(
    stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = made(stories, tmp_path / "plain").tokens.ids_N.tolist()
    assert capsys.readouterr().err == ""
    path = stories / "train-00001.parquet"
    texts = pq.read_table(path)["text"].to_pylist()
    pq.write_table(pyarrow.table({"text": [None, *texts, None]}), path)
    found = made(stories, tmp_path / "run")
    assert found.tokens.ids_N.tolist() == expected
    assert capsys.readouterr().err == "rows that hold null and no story, left out: 2\n"
    made(stories, tmp_path / "run")
    assert capsys.readouterr().err == ""


def test_tokens_of_another_column_are_never_taken(tmp_path: Path) -> None:
    table = pyarrow.table({"one": SENTENCES, "two": SENTENCES[::-1]})
    pq.write_table(table, tmp_path / "train.parquet")
    one, two, again = (
        open_corpus(tmp_path, None, SIZE, tmp_path / "run", Columns(text=name))
        for name in ("one", "two", "one")
    )
    assert one.tokens.ids_N.tolist() == again.tokens.ids_N.tolist() != two.tokens.ids_N.tolist()


def test_a_long_word_is_encoded_whole(tmp_path: Path) -> None:
    word = "ab" * (LONGEST_RUN + 10)
    pq.write_table(pyarrow.table({"text": [word, "a b c"]}), tmp_path / "train.parquet")
    found = made(tmp_path, None)
    expected = tokenize([word, "a b c"], found.tokenizer)
    assert found.tokens.ids_N.tolist() == expected.ids_N.tolist()
    assert found.tokens.bytes == len(word) + 5
