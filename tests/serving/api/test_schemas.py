"""A request says everything that the sampler can be asked for, each under its own name."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from luminanet.sampling import Sampling
from serving.api.openai.schemas import CompletionRequest
from serving.api.schemas import GenerateRequest

DOCS = Path(__file__).parents[3] / "docs/serving.md"
SCHEMAS = (GenerateRequest, CompletionRequest)

ASKED = {
    "temperature": 0.5,
    "top_k": 7,
    "top_p": 0.25,
    "min_p": 0.125,
    "repetition_penalty": 1.5,
    "min_tokens": 2,
}
BIAS = {"5": -1, "17": 0.5}


def test_every_parameter_of_the_sampler_can_be_asked_for() -> None:
    of_request = {*ASKED, "seed", "logit_bias"}
    assert {field.name for field in fields(Sampling)} == {*of_request, "end_id"}
    for schema in SCHEMAS:
        assert of_request <= set(schema.model_fields)


def test_every_parameter_of_a_text_is_in_the_table_of_the_docs() -> None:
    page = DOCS.read_text("utf-8").partition("## Parameters of a text")[2].partition("\n## ")[0]
    names = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")][1:]
    listed = [name.strip("|` ") for line in names for name in line.split(",")]
    assert sorted(listed) == sorted(GenerateRequest.model_fields)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_a_request_asks_for_is_what_the_sampler_is_asked(schema: Any) -> None:
    request = schema.model_validate({"prompt": "a", **ASKED, "logit_bias": BIAS})
    expected = {**ASKED, "seed": 3, "logit_bias": {5: -1, 17: 0.5}, "end_id": 9}
    assert asdict(request.sampling(seed=3, end_id=9)) == expected


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_text_that_goes_on_beyond_its_end_holds_no_end_back(schema: Any) -> None:
    request = schema.model_validate({"prompt": "a", "min_tokens": 5, "ignore_eos": True})
    assert request.sampling(seed=3, end_id=9).in_graphs


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        ([1], "object of token ids"),
        ({"a": 1}, "names should be token ids"),
        ({"-1": 1}, "names should be token ids"),
        ({"01": 1}, "names should be token ids"),
        ({"²": 1}, "names should be token ids"),
        ({"9" * 40: 1}, "names should be token ids"),
        ({"1": "1"}, "a bias is a number"),
        ({"1": True}, "a bias is a number"),
        ({"1": None}, "a bias is a number"),
        ({"1": 100.5}, "-100 to 100"),
        ({str(token): 1 for token in range(301)}, "at most 300"),
    ],
)
def test_a_bias_that_is_none_is_told(bias: Any, words: str) -> None:
    for schema in SCHEMAS:
        with pytest.raises(ValidationError, match=words):
            schema.model_validate({"prompt": "a", "logit_bias": bias})
