"""The whole path on generated data: train for seconds, freeze, serve, ask once per task."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from export.freeze import main as freeze
from serving.measure.servers import Server, served
from tests.datasets import write_images, write_stories
from training.train import main as train

TEXT = ["--batch", "4", "--context", "32", "--vocab-size", "300", "--steps", "20"]
RUNS = {
    "cifar10": ["--batch", "16", "--width", "8", "--channel", "4", "--steps", "40"],
    "tinystories": [*TEXT, "--width", "16", "--channel", "8"],
    "gpt2": [*TEXT, "--width", "32"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three networks, trained and frozen."""
    root = tmp_path_factory.mktemp("pipeline")
    write_images(root / "data")
    write_stories(root / "data")
    for preset, options in RUNS.items():
        out = root / "runs" / preset
        arguments = ["--preset", preset, "--data", str(root / "data"), "--out", str(out)]
        evolution = [] if preset == "gpt2" else ["--evolution-events", "4"]
        assert train([*arguments, *options, *evolution, "--threads", "1"]) == 0
        assert freeze([str(out / "ckpt.pt"), "--precision", "int8"]) == 0
    return root / "runs"


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    with served(["--artifacts", str(runs)], os.environ) as running:
        yield running


def test_a_trained_and_frozen_classifier_answers(server: Server) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (100, 60), (200, 30, 30)).save(picture, "PNG")
    files = {"file": ("red.png", picture.getvalue(), "image/png")}
    answer = httpx.post(f"{server.url}/classify", files=files).raise_for_status().json()
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_a_trained_and_frozen_text_model_answers(server: Server, model: str) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 12, "seed": 1, "model": model}
    whole = httpx.post(f"{server.url}/generate", json=body).raise_for_status().json()
    assert whole["usage"]["completion_tokens"] <= 12
    assert whole["finish_reason"] in ("stop", "length")
    streamed = httpx.post(f"{server.url}/generate", json=body | {"stream": True})
    frames = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert frames[-1] == "[DONE]"
    pieces = [json.loads(frame).get("text", "") for frame in frames[:-1]]
    assert "".join(pieces) == whole["text"]


def test_the_metrics_count_what_was_asked(server: Server) -> None:
    metrics = httpx.get(f"{server.url}/metrics").raise_for_status().text
    for model in ("luminanet", "gpt2"):
        lines = [
            line
            for line in metrics.splitlines()
            if line.startswith("luminanet_generation_tokens_total{") and f'"{model}"' in line
        ]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in lines) > 0


def test_the_same_artifacts_are_served_in_int8(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINANET_PRECISION", "int8")
    body = {"prompt": "Once upon a time", "max_tokens": 12, "seed": 1}
    with served(["--artifacts", str(runs)], os.environ) as running:
        cards = httpx.get(f"{running.url}/models").raise_for_status().json()["models"]
        answer = httpx.post(f"{running.url}/generate", json=body).raise_for_status().json()
    assert [card["precision"] for card in cards] == ["int8"] * 3
    assert answer["usage"]["completion_tokens"] > 0
