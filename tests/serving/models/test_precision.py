"""int8 is served where an artifact has it, each batch size by the graph that is made for it."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.assembly.describe import Label
from luminanet.artifact.manifest import Family
from luminanet.errors import ArtifactError
from luminanet.fields import ImageInput, Patch
from luminanet.gpt2 import Gpt2Config
from luminanet.interface import Arrays, Tensor
from luminanet.topology import Cluster, Connection, Topology
from serving.engines.images import ImageBatch
from serving.models.load import Models, load
from serving.runtimes.backend import Backend, ByBatch, Step
from tests.nets import (
    LABELS,
    random_gpt2,
    random_weights,
    tiny_image_topology,
    tiny_tokenizer,
    write_artifact,
)
from tests.serving.helpers import Running, running


def wide() -> Topology:
    """Products that are large enough to be worth int8."""
    clusters = [
        Cluster(number, 0, 64, (Patch((0, 1, 2), top, left, 16, 16),))
        for number, (top, left) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)])
    ]
    links = tuple(Connection(4, number) for number in range(4))
    image = ImageInput(3, 32, 32)
    small = tiny_image_topology()
    return Topology(image, 8, len(LABELS), small.activation, (*clusters, Cluster(4, 1, 64)), links)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, tokenizer = tmp_path_factory.mktemp("int8"), tiny_tokenizer()
    write_artifact(root / "image", random_weights(wide()), Label("image", classes=LABELS), "int8")
    config = Gpt2Config(vocab_size=tokenizer.vocab_size, context=32, width=128, heads=4)
    label = Label("text", tokenizer.to_json())
    write_artifact(root / "text", random_gpt2(0, config), label, "int8", decode=(4,))
    return root


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return load(folder, threads=1, precision="int8")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Models:
    return load(folder, threads=1)


@pytest.fixture(scope="module")
def server(models: Models) -> Iterator[Running]:
    with running(models, max_batch=8) as server:
        yield server


class Named:
    """A backend that says which one it is."""

    def __init__(self, told: list[str], own: str) -> None:
        self.told, self.own = told, own
        self.name: str = own
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:  # noqa: ARG002
        return lambda: self.told.append(self.own)


def test_a_graph_for_tensorrt_is_not_served_here(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    net = random_gpt2(0, Gpt2Config(tokenizer.vocab_size, context=32, width=16, heads=2))
    label = Label("text", tokenizer.to_json())
    write_artifact(tmp_path / "text", net, label, tensorrt=True, decode=(4,))
    (tmp_path / "text" / "model.tensorrt.onnx").unlink()
    assert load(tmp_path, threads=1).text[Family.GPT2].manifest.graphs["model.tensorrt.onnx"]


@pytest.mark.parametrize(
    ("batch", "chosen"), [(1, "one"), (3, "one"), (4, "four"), (5, "four"), (64, "many")]
)
def test_a_batch_is_computed_by_the_graph_that_is_made_for_it(batch: int, chosen: str) -> None:
    told: list[str] = []
    rows = np.zeros((batch, 1), np.float32)
    backends: dict[int, Backend] = {
        8: Named(told, "many"),
        1: Named(told, "one"),
        4: Named(told, "four"),
    }
    ByBatch(backends).bind({"x": rows}, {"y": rows})()
    assert told == [chosen]


def test_a_batch_below_all_is_computed_by_the_first() -> None:
    told: list[str] = []
    rows = np.zeros((1, 1), np.float32)
    ByBatch({4: Named(told, "four")}).bind({"x": rows}, {"y": rows})()
    assert told == ["four"]


def logits(models: Models, images: NDArray[np.float32]) -> NDArray[np.float64]:
    assert models.image
    batch = ImageBatch(models.image.backend, models.image.manifest, len(images))
    return np.log(batch.run(list(images)))


@pytest.mark.parametrize("batch", [1, 3, 4, 8])
def test_int8_is_near_fp32_but_not_the_same(models: Models, plain: Models, batch: int) -> None:
    images = np.random.default_rng(0).random((batch, 3, 32, 32), dtype=np.float32)
    exact, found = logits(plain, images), logits(models, images)
    assert 1e-5 < np.abs(found - exact).max() < 0.2


def test_rows_do_not_mix_below_batch_4(models: Models) -> None:
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    images[2] *= 2
    together = logits(models, images)
    alone = np.concatenate([logits(models, images[at : at + 1]) for at in range(3)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


def test_what_is_served_is_told(server: Running) -> None:
    cards = server.client.get("/models").json()["models"]
    assert {card["precision"] for card in cards} == {"int8"}
    info = {"precision": "int8", "name": "text", "model": "gpt2", "backend": "ort_cpu"}
    text = server.client.get("/metrics").text
    (line,) = (
        x for x in text.splitlines() if x.startswith("luminanet_model_info{") and "gpt2" in x
    )
    assert all(f'{key}="{value}"' in line for key, value in info.items())


def test_requests_are_answered(server: Running) -> None:
    body = {"prompt": "Once", "max_tokens": 5, "seed": 1, "model": "gpt2"}
    assert server.post("/generate", **body).json()["usage"]["completion_tokens"] > 0
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(picture, "PNG")
    files = {"file": ("red.png", picture.getvalue(), "image/png")}
    answer: httpx.Response = server.client.post("/classify", files=files)
    assert answer.json()["label"] in LABELS


def test_an_artifact_without_int8_says_how_to_add_it(artifacts: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"no graph in int8.*freeze\.py ckpt\.pt --precision int8"
    ):
        load(artifacts, threads=1, precision="int8")


def test_fp32_of_the_same_artifact_is_served_too(folder: Path) -> None:
    models = load(folder, threads=1)
    assert models.image
    assert models.image.precision == models.text[Family.GPT2].precision == "fp32"
