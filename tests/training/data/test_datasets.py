from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

from luminanet.errors import DataError
from tests.datasets import write_stories
from tests.nets import tiny_tokenizer
from training.data.datasets import load_images, load_stories, resolve, tokenize


def test_images_come_as_bytes_channel_first(data: Path) -> None:
    images = load_images(data, "train")
    assert images.pixels_NCYX.shape == (120, 3, 32, 32)
    assert images.pixels_NCYX.dtype == np.uint8
    assert images.labels_N.tolist()[:3] == [0, 1, 2]
    assert np.ptp(images.pixels_NCYX[0].mean((1, 2))) > 0


def test_a_folder_that_is_itself_the_data_set_will_do(data: Path) -> None:
    assert len(load_images(data / "cifar10", "test")) == 20


def test_splits_in_several_files_of_the_hub_are_joined(tmp_path: Path) -> None:
    write_stories(tmp_path / "a")
    for part in ("train-00000-of-00002-x.parquet", "train-00001-of-00002-y.parquet"):
        source = tmp_path / "a" / "tinystories" / "train.parquet"
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / part).write_bytes(source.read_bytes())
    assert len(load_stories(tmp_path / "data", "train")) == 120


def test_without_a_folder_the_data_set_comes_from_the_hub_by_name(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def snapshot_download(repo_id: str, **options: object) -> str:
        asked[repo_id] = options
        return str(data / "tinystories")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert len(load_stories(None, "validation")) == 10
    assert asked == {
        "roneneldan/TinyStories": {
            "repo_type": "dataset",
            "allow_patterns": ["*validation*.parquet"],
        }
    }


def test_no_network_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo_id: str, **options: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(DataError, match="--data or LUMINANET_DATA"):
        load_images(None, "train")


def test_a_missing_folder_or_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check --data"):
        resolve(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"no train\*\.parquet"):
        load_stories(tmp_path, "train")


def test_a_file_of_another_layout_is_a_clear_error(tmp_path: Path) -> None:
    pq.write_table(pyarrow.table({"words": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"no column .* for the stories: name .* \(words\)"):
        load_stories(tmp_path, "train")
    (tmp_path / "train.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="is no whole Parquet file"):
        load_stories(tmp_path, "train")


def test_the_folder_comes_from_the_option_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUMINANET_DATA", raising=False)
    assert resolve(None) is None
    monkeypatch.setenv("LUMINANET_DATA", str(tmp_path))
    assert resolve(None) == tmp_path


def test_every_story_ends_with_the_end_token() -> None:
    tokenizer = tiny_tokenizer()
    tokens = tokenize(["a b", "\N{SNOWMAN}"], tokenizer)
    assert (tokens.ids_N == tokenizer.end_id).sum() == 2
    assert tokens.ids_N[-1] == tokenizer.end_id
    assert tokens.bytes == 6
