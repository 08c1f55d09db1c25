"""With int8 too, one seed gives one text, whatever the batch and the tokens a call draws."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.assembly.describe import Label, pack
from export.checks.assess import Net
from luminanet.artifact.directory import write
from luminanet.artifact.manifest import Family, Served
from luminanet.errors import ArtifactError
from luminanet.fields import Interval, TextInput
from luminanet.gpt2 import Gpt2Config
from luminanet.sampling import Sampling
from luminanet.topology import Activation, Cluster, Connection, Topology
from serving.engines.making import _sequences
from serving.metrics.families import Metrics
from serving.models.load import Models, load
from serving.service import Service
from serving.settings import Settings
from tests.nets import frozen, random_gpt2, random_weights, tiny_tokenizer
from tests.serving.helpers import Running, running

TOKENIZER = tiny_tokenizer()
PROMPTS = [[1 + n, 2 * n, 3, 100 + n][: 1 + n % 4] for n in range(13)]
WAYS = [
    (Sampling(0), Sampling(0.8, top_p=0.95, seed=n), Sampling(1, 30, min_p=0.01, seed=n))[n % 3]
    for n in range(13)
]
TOKENS = 24


def luminanet() -> Net:
    """Products that are large enough to be worth int8."""
    clusters = (
        Cluster(0, 0, 160, (Interval(0, 1), Interval(1, 2))),
        Cluster(1, 0, 160, (Interval(0, 1), Interval(2, 32))),
        Cluster(2, 1, 160, (Interval(0, 4),)),
    )
    links = (Connection(2, 0), Connection(2, 1), Connection(0, 2), Connection(1, 1))
    shape = TextInput(TOKENIZER.vocab_size, embedding=128, window=32)
    return random_weights(Topology(shape, 130, 128, Activation.SILU, clusters, links))


def gpt2() -> Net:
    return random_gpt2(0, Gpt2Config(TOKENIZER.vocab_size, context=32, width=128, heads=4))


def write_form(out: Path, net: Net, form: str) -> None:
    graphs = frozen(net, "int8", decode=(1, 4), form=form)
    assert any(node.op_type == "MatMulNBits" for node in graphs[1].model.graph.node)
    packed = pack(net, graphs, Label(out.name, TOKENIZER.to_json()))
    write(out, packed.manifest, packed.files)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reproducible")
    write_form(root / "luminanet", luminanet(), "bus")
    write_form(root / "gpt2", gpt2(), "auto")
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(load(folder, 1, "int8", 4, reproducible=True), reproducible=True) as server:
        yield server


def texts(models: Models, family: Family, batch: int) -> NDArray[np.float64]:
    """Ids and log-probabilities of all prompts [2, prompts, TOKENS]."""
    sequences = _sequences(models.text[family], batch)
    assert sequences
    found = []
    for start in range(0, len(PROMPTS), batch):
        rows = range(start, min(start + batch, len(PROMPTS)))
        for row, number in enumerate(rows):
            sequences.join(row, PROMPTS[number], WAYS[number])
        calls = []
        for _ in range(TOKENS // models.text[family].how.steps):
            calls.append([array.copy() for array in sequences.draw(len(rows))])
        found.append([np.concatenate(part, 1) for part in zip(*calls, strict=True)])
    return np.stack([np.concatenate(part).astype(float) for part in zip(*found, strict=True)])


@pytest.mark.parametrize("family", [Family.LUMINANET, Family.GPT2])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_text_is_the_same_to_the_bit_in_any_batch_and_call(
    folder: Path, family: Family, precision: Served
) -> None:
    models = {steps: load(folder, 1, precision, steps, reproducible=True) for steps in (1, 4)}
    alone = texts(models[1], family, 1)
    for steps, batch in ((1, 5), (4, 1), (4, 4), (4, 13)):
        np.testing.assert_array_equal(texts(models[steps], family, batch), alone)


def test_without_it_int8_uses_the_graph_that_is_fastest_for_a_batch(folder: Path) -> None:
    plain, fixed = (load(folder, 1, "int8", 4, reproducible=r) for r in (False, True))
    for family in Family:
        apart = texts(plain, family, 13)[1] - texts(fixed, family, 13)[1]
        assert np.abs(apart).max() > 1e-4


def test_a_graph_that_mixes_rows_is_refused_with_the_form_that_does_not(tmp_path: Path) -> None:
    write_form(tmp_path / "text", luminanet(), "shared")
    models = load(tmp_path, 1, "int8", 4, reproducible=True)
    with pytest.raises(ArtifactError, match=r"cannot be reproducible: .* --form bus"):
        Service(Settings(max_batch=4, reproducible=True), models, Metrics())


@pytest.mark.parametrize("model", ["luminanet", "gpt2"])
def test_it_is_served(server: Running, model: str) -> None:
    body = {"prompt": "Once upon", "max_tokens": 9, "seed": 3, "model": model}
    first, second = (server.post("/generate", **body).json()["text"] for _ in range(2))
    assert first == second
