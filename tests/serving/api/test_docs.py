"""The API describes itself, and what it says is true of what it answers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from serving.api.openai.schemas import CompletionRequest
from serving.api.reference import render
from serving.api.schemas import ClassifyRequest, GenerateRequest
from serving.models.load import Models
from tests.serving.helpers import Running, running

PATHS = {"/generate", "/classify", "/models", "/metrics", "/tokenize", "/detokenize"}
OPENAI = {"/v1/completions", "/v1/models", "/v1/models/{model}"}
MODEL, VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
OIP = {
    *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index"),
    *(path + end for path in (MODEL, VERSION) for end in ("", "/ready", "/stats", "/infer")),
}
HEALTH = {"/health", "/health/live", "/health/ready", "/health/startup"}


@pytest.fixture(scope="module")
def api(server: Running) -> Any:
    return server.client.get("/openapi.json").json()


def test_the_page_for_people_names_every_path_and_field_and_loads_nothing(
    server: Running, api: Any
) -> None:
    response = server.client.get("/docs")
    assert response.status_code == 200
    for name in (*api["paths"], *GenerateRequest.model_fields, *ClassifyRequest.model_fields):
        assert f"{name}</code>" in response.text
    assert not re.search(r"src=|url\(|https?://|<script|<link", response.text)
    assert 'href="openapi.json"' in response.text, "relative: works below any prefix"


def test_the_page_for_people_shows_text_as_text() -> None:
    info = {"title": "<b>", "version": "1", "description": "a < `b`"}
    page = render({"info": info, "paths": {}})
    assert "&lt;b&gt; 1" in page
    assert "a &lt; <code>b</code>" in page


def test_behind_a_prefix_the_api_says_where_it_is(models: Models) -> None:
    with running(models, root_path="/luminanet") as server:
        for prefix in "", "/luminanet":  # a proxy may strip it or not
            api = server.client.get(f"{prefix}/openapi.json").json()
            assert api["servers"] == [{"url": "/luminanet"}]
            assert server.client.get(f"{prefix}/docs").status_code == 200
        labels = {"route": "/docs", "code": "200"}
        assert server.metric("requests_total", **labels) == 2


@pytest.mark.parametrize("path", ["/models", "/metrics", "/docs", "/openapi.json", *sorted(HEALTH)])
def test_head_answers_as_get_without_a_body(server: Running, path: str) -> None:
    head, get = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/generate", "/classify"])
def test_head_of_what_is_posted_is_a_405(server: Running, path: str) -> None:
    head = server.client.head(path)
    assert (head.status_code, head.headers["allow"]) == (405, "POST")


def test_every_endpoint_is_described(api: Any) -> None:
    assert set(api["paths"]) == PATHS | OPENAI | OIP | HEALTH
    for path in api["paths"].values():
        for operation in path.values():
            assert operation["description"]


def test_all_ways_to_send_pictures_are_described(api: Any) -> None:
    content = api["paths"]["/classify"]["post"]["requestBody"]["content"]
    file = content["multipart/form-data"]["schema"]["properties"]["file"]
    assert [one["type"] for one in file["anyOf"]] == ["string", "array"]
    for kind in "application/x-npy", "application/octet-stream":
        assert content[kind]["schema"]["format"] == "binary"
    fields = content["application/json"]["schema"]["properties"]
    assert set(fields) == set(ClassifyRequest.model_fields)


def test_every_field_of_a_request_is_explained(api: Any) -> None:
    content = api["paths"]["/generate"]["post"]["requestBody"]["content"]
    fields = content["application/json"]["schema"]["properties"]
    assert set(fields) == set(GenerateRequest.model_fields)
    assert all(field["description"] for field in fields.values())
    assert {"string", "array", "null"} == {one["type"] for one in fields["stop"]["anyOf"]}


def test_what_may_be_null_is_said_and_what_is_required_may_not(api: Any) -> None:
    content = api["paths"]["/generate"]["post"]["requestBody"]["content"]
    fields = content["application/json"]["schema"]["properties"]
    nullable = {n for n, field in fields.items() if {"type": "null"} in field.get("anyOf", [])}
    assert nullable == set(GenerateRequest.model_fields) - {"prompt"}


@pytest.mark.parametrize("path", ["/generate", "/classify"])
def test_every_example_of_a_body_is_answered(server: Running, api: Any, path: str) -> None:
    content = api["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert len(content["examples"]) > 1
    for example in content["examples"].values():
        assert server.client.post(path, json=example["value"]).status_code == 200


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from references(inner)


def test_every_reference_leads_somewhere(api: Any) -> None:
    found = set(references(api))
    assert found
    for reference in found:
        place = api
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    options = CompletionRequest.model_json_schema()
    assert set(references(options)), "a body that has references of its own, which are inlined"


def test_streams_and_errors_are_described(api: Any) -> None:
    responses = api["paths"]["/generate"]["post"]["responses"]
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {"400", "404", "413", "415", "422", "429", "500", "503"} <= set(responses)
    for code in "422", "429":
        reference = responses[code]["content"]["application/json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/ErrorAnswer"


def test_the_models_are_told_with_their_facts(server: Running) -> None:
    cards = server.client.get("/models").json()["models"]
    by_name = {card["name"]: card for card in cards}
    assert set(by_name) == {"luminanet-cifar10", "luminanet-tinystories", "gpt2-tinystories"}
    assert {card["precision"] for card in cards} == {"fp32"}
    assert all(card["parameters"] > 0 and card["macs"] > 0 for card in cards)
    assert by_name["gpt2-tinystories"]["model"] == "gpt2"
    assert by_name["luminanet-tinystories"]["context"] > 0
    assert len(by_name["luminanet-cifar10"]["labels"]) == 10


@pytest.mark.parametrize("path", sorted(HEALTH))
def test_a_server_that_runs_is_healthy(server: Running, path: str) -> None:
    assert server.client.get(path).status_code == 200
