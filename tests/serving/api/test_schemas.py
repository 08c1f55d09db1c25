"""A request says everything that the sampler can be asked for, each under its own name."""

from dataclasses import asdict, fields

from luminanet.sampling import Sampling
from serving.api.schemas import GenerateRequest

ASKED = {"temperature": 0.5, "top_k": 7, "top_p": 0.25, "min_p": 0.125, "repetition_penalty": 1.5}


def test_every_parameter_of_the_sampler_can_be_asked_for() -> None:
    assert {field.name for field in fields(Sampling)} == {*ASKED, "seed"}
    assert {*ASKED, "seed"} <= set(GenerateRequest.model_fields)


def test_what_a_request_asks_for_is_what_the_sampler_is_asked() -> None:
    request = GenerateRequest.model_validate({"prompt": "a", **ASKED})
    assert asdict(request.sampling(seed=3)) == {**ASKED, "seed": 3}
