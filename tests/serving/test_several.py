"""Several artifacts of a family side by side: which one a name means, and how each is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from export.assembly.describe import Label
from luminanet.artifact.manifest import Family
from luminanet.gpt2 import Gpt2Config
from serving.models.load import Models, load
from tests.nets import (
    LABELS,
    random_gpt2,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
    tiny_tokenizer,
    write_artifact,
    write_tiny_artifacts,
)
from tests.serving.api.test_classify import png
from tests.serving.helpers import Running, running, wait_until

TEXT = "text-generation"
BODY: dict[str, Any] = {"prompt": "Once upon", "max_tokens": 12, "seed": 3}


def write_others(root: Path, seed: int = 7) -> None:
    """Another of each kind, after those of write_tiny_artifacts in the order of names."""
    tokenizer = tiny_tokenizer()
    size, text = tokenizer.vocab_size, tokenizer.to_json()
    config = Gpt2Config(vocab_size=size, context=32, width=16, heads=2)
    for net, label in (
        (random_weights(tiny_image_topology(), seed), Label("z-image", classes=LABELS)),
        (random_weights(tiny_text_topology(size), seed), Label("z-text", text)),
        (random_gpt2(seed, config), Label("z-gpt2", text)),
    ):
        write_artifact(root / label.name, net, label, decode=(4,))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root = tmp_path_factory.mktemp("several")
    write_tiny_artifacts(root, decode=(4,))
    write_others(root)
    return load(root, threads=1)


@pytest.fixture(scope="module")
def crowd(several: Models) -> Iterator[Running]:
    with running(several) as server:
        yield server


def text(server: Running, model: str) -> str:
    answer = server.post("/generate", **BODY, model=model).json()
    assert answer["model"] == model, "as the request calls it"
    return str(answer["text"])


@pytest.mark.parametrize(
    ("family", "default", "other"),
    [("luminanet", "luminanet-tinystories", "z-text"), ("gpt2", "gpt2-tinystories", "z-gpt2")],
)
def test_a_family_means_its_first_artifact_and_others_go_by_name(
    crowd: Running, server: Running, family: str, default: str, other: str
) -> None:
    assert text(crowd, family) == text(crowd, default) == text(server, family)
    assert text(crowd, other) != text(crowd, family)


def test_every_route_of_texts_takes_the_name_of_an_artifact(crowd: Running) -> None:
    body = {"prompt": "Once upon", "max_tokens": 12, "seed": 3, "temperature": 0.8, "top_k": 50}
    answer = crowd.post("/v1/completions", **body, model="z-text").json()
    assert answer["choices"][0]["text"] == text(crowd, "z-text")
    tokens = crowd.post("/tokenize", prompt="Once", model="z-gpt2").json()["tokens"]
    same = crowd.post("/detokenize", tokens=tokens, model="z-gpt2")
    assert same.json() == {"prompt": "Once"}


def test_pictures_are_seen_by_the_model_that_is_named_in_json_and_in_a_form(
    crowd: Running, server: Running
) -> None:
    def seen(server: Running, **fields: str) -> Any:
        files = {"file": ("a.png", png(), "image/png")}
        return server.client.post("/classify", files=files, data=fields).json()

    assert seen(crowd) == seen(server) == seen(crowd, model="luminanet")
    other = seen(crowd, model="z-image")
    assert other["model"] == "z-image"
    assert other["probabilities"] != seen(crowd)["probabilities"]
    named = seen(crowd, model="luminanet-cifar10", top_k="5")
    assert named["probabilities"] == seen(crowd)["probabilities"]


@pytest.mark.parametrize(
    "name", ["nobody", "", "z-image", "Luminanet", "x" * 2000, "a\nb", "gpt-4"]
)
def test_a_name_of_no_text_model_gets_a_404_that_lists_those_there_are(
    crowd: Running, name: str
) -> None:
    answers = [
        crowd.post("/generate", **BODY, model=name),
        crowd.post("/tokenize", prompt="a", model=name),
        crowd.post("/v1/completions", prompt="a", model=name),
    ]
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (404, "model")
        assert "this server has gpt2, gpt2-tinystories, luminanet, luminanet-" in error["message"]
        assert len(error["message"]) < 300
        assert "\n" not in error["message"]


@pytest.mark.parametrize("name", ["nobody", "z-text", "gpt2"])
def test_a_name_of_no_image_model_is_answered_so_too(crowd: Running, name: str) -> None:
    files = {"file": ("a.png", png(), "image/png")}
    answer = crowd.client.post("/classify", files=files, data={"model": name})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].endswith("luminanet, luminanet-cifar10, z-image")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "x" * 1025}, "model has more than 1024 bytes"),
        (
            {"model": ["luminanet", "luminanet"]},
            "top_k, model, and only file more than once",
        ),
        ({"top_k": ["1", "1"]}, "top_k, model, and only file more than once"),
    ],
)
def test_a_form_has_a_model_once_and_not_too_long(
    crowd: Running, fields: dict[str, Any], words: str
) -> None:
    files = {"file": ("a.png", png(), "image/png")}
    answer = crowd.client.post("/classify", files=files, data=fields)
    assert answer.status_code in (400, 422)
    assert words in answer.json()["error"]["message"]


def test_all_are_listed_with_what_requests_call_them(crowd: Running) -> None:
    cards = crowd.client.get("/models").json()["models"]
    assert [(card["model"], card["name"]) for card in cards] == [
        ("luminanet", "luminanet-cifar10"),
        ("gpt2", "gpt2-tinystories"),
        ("luminanet", "luminanet-tinystories"),
        ("z-gpt2", "z-gpt2"),
        ("z-image", "z-image"),
        ("z-text", "z-text"),
    ]
    listed = crowd.client.get("/v1/models").json()["data"]
    assert [(card["id"], card["root"]) for card in listed] == [
        (card["model"], card["name"]) for card in cards if card["task"] == TEXT
    ]
    for name in ("z-text", "luminanet", "luminanet-tinystories"):
        assert crowd.client.get(f"/v1/models/{name}").json()["id"] == name


def test_ratios_of_families_are_of_their_defaults(crowd: Running) -> None:
    def tokens(model: str) -> float:
        labels = {"model": model, "backend": "ort_cpu", "task": TEXT}
        return crowd.metric("generation_tokens_total", **labels)

    before = {model: tokens(model) for model in ("luminanet", "gpt2", "z-text")}
    drawn = crowd.post("/generate", **BODY, model="z-text").json()["usage"]["completion_tokens"]
    wait_until(lambda: tokens("z-text") == before["z-text"] + drawn)
    assert {model: tokens(model) for model in ("luminanet", "gpt2")} == {
        model: before[model] for model in ("luminanet", "gpt2")
    }


def test_labels_are_bounded_by_what_is_loaded_whatever_requests_call_it(crowd: Running) -> None:
    for name in ("luminanet-tinystories", "nobody", "z-text"):
        crowd.post("/generate", **BODY, model=name)
    metrics = crowd.service.metrics.registry.collect()
    samples = [sample for family in metrics for sample in family.samples]
    found = {sample.labels["model"] for sample in samples if "model" in sample.labels}
    assert found == {"luminanet", "gpt2", "z-text", "z-gpt2", "z-image"}


def test_a_shadow_compares_the_defaults(several: Models) -> None:
    with running(several, shadow=1.0) as server:
        shadow = server.service._shadow
        assert shadow
        assert [side.model.manifest.name for side in shadow._sides] == [
            "luminanet-tinystories",
            "gpt2-tinystories",
        ]
        server.post("/generate", **BODY, model="z-text")
        assert not shadow._pending
        outcomes = server.metric("shadow_requests_total", outcome="paired")
    assert outcomes == 0


def test_the_longest_context_decides_how_large_a_body_may_be(several: Models) -> None:
    only = Models({Family.GPT2: several.text[Family.GPT2]}, None, several.others)
    assert {model.manifest.name for model in only.texts} == {"gpt2-tinystories", "z-gpt2", "z-text"}
    with running(only) as server:
        assert server.post("/generate", **BODY, model="z-text").status_code == 200
        assert server.post("/generate", **BODY, model="luminanet").status_code == 404
