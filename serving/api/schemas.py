"""Bodies and answers of the API. Types are strict and unknown fields are refused; lists of a body
are left at their first bad item (FailFast)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
)

from luminanet.sampling import Sampling

MAX_STOPS = 4
MAX_STOP_CHARACTERS = 64
MAX_INT = 2**63 - 1
MIN_PENALTY, MAX_PENALTY = 0.1, 10
TOLD = ("title", "description", "default", "examples")
"""What a schema says of a field, whichever of its kinds a value has."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Stops = Annotated[
    list[Stop],
    FailFast(),
    BeforeValidator(_as_list, json_schema_input_type=Stop | list[Stop]),
    Field(max_length=MAX_STOPS),
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def described(body: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a body for OpenAPI: whole, since references would lead nowhere from within
    another document, and with null where a field may be absent."""
    schema = body.model_json_schema()
    named = schema.pop("$defs", {})
    required = schema.get("required", ())
    schema["properties"] = {
        name: field if name in required else _nullable(field)
        for name, field in schema["properties"].items()
    }
    return dict(_inlined(schema, named))


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    told = {name: part for name, part in field.items() if name in TOLD}
    kinds = field.get("anyOf", [{name: part for name, part in field.items() if name not in TOLD}])
    null = {"type": "null"}
    return {**told, "anyOf": kinds if null in kinds else [*kinds, null]}


def _inlined(schema: Any, named: Mapping[str, Any]) -> Any:
    """Its references to `named` replaced by what they name."""
    if isinstance(schema, list):
        return [_inlined(one, named) for one in schema]
    if not isinstance(schema, dict):
        return schema
    beside = {name: _inlined(one, named) for name, one in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return beside
    return {**_inlined(named[schema["$ref"].removeprefix("#/$defs/")], named), **beside}


class GenerateRequest(Body):
    prompt: str = Field(
        min_length=1,
        description="text to continue; at most as many tokens as the model's context (/models)",
        examples=["Once upon a time, there was a little"],
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INT,
        description="tokens to generate at most; the server sets default and limit",
    )
    temperature: float = Field(
        default=0.8,
        ge=0,
        le=100,
        description="0 always takes the most likely token; more is more varied",
    )
    top_k: int = Field(
        default=50, ge=0, le=MAX_INT, description="only the k most likely tokens; 0: all"
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="only the most likely tokens that together reach p"
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="only tokens at least p times as likely as the most likely one; 0: all",
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=MIN_PENALTY,
        le=MAX_PENALTY,
        description="makes tokens that the model sees in the text so far less likely (above 1) or "
        "more (below): divides their logits where positive, multiplies them where negative",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INT,
        description="same seed, same text, whatever else runs; chosen and answered when absent",
    )
    stop: Stops = Field(
        default=[],
        description=f"a string or up to {MAX_STOPS} strings of up to {MAX_STOP_CHARACTERS} "
        "characters that end the text and are not part of it",
    )
    logprobs: bool = Field(
        default=False,
        description="answer the natural logarithm of the probability of every token generated, at "
        "temperature 1 and before any limit or penalty",
    )
    stream: bool = Field(default=False, description="answer piece by piece, as server-sent events")
    model: Literal["luminanet", "gpt2"] = Field(default="luminanet", description="who writes")

    def sampling(self, seed: int) -> Sampling:
        """How the tokens are to be chosen; `seed` is the request's, or one chosen for it."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=seed,
        )


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int = Field(description="tokens generated, the end-of-text token included")
    total_tokens: int


class GenerateResponse(BaseModel):
    text: str = Field(examples=[" girl named Lily."])
    finish_reason: str = Field(
        description="stop: end of text or a stop string; length: max_tokens or a full context",
        json_schema_extra={"enum": ["stop", "length"]},
    )
    usage: Usage
    model: str
    seed: int
    logprobs: list[float] | None = Field(
        default=None,
        description="one for each of usage.completion_tokens, where the request asks for them",
    )


class ClassifyRequest(Body):
    image: str = Field(min_length=1, description="a PNG, JPEG or WebP file in base64")
    top_k: int = Field(default=5, ge=1, description="how many of the most likely classes to list")


class Prediction(BaseModel):
    label: str
    index: int
    probability: float


class ClassifyResponse(BaseModel):
    label: str = Field(examples=["ship"])
    index: int
    probabilities: dict[str, float] = Field(description="every class by name; they sum to 1")
    top_k: list[Prediction] = Field(description="the most likely classes, best first")
    model: str


class ModelCard(BaseModel):
    model: str = Field(description="what requests call it", examples=["luminanet"])
    name: str = Field(description="the artifact's name")
    task: str
    summary: str
    backend: str
    precision: str = Field(description="what it computes in: fp32 or int8")
    parameters: int
    macs: int = Field(description="multiply-accumulates of one forward; text: per token")
    context: int = Field(description="tokens that one prediction can see; 0 for images")
    labels: list[str]
    figures: dict[str, float] = Field(description="measured when the artifact was made")


class ModelList(BaseModel):
    models: list[ModelCard]


class Health(BaseModel):
    status: Literal["live", "started", "ready"]


class ErrorDetail(BaseModel):
    type: str = Field(examples=["invalid_request"])
    message: str = Field(examples=["max_tokens is 0: it must be at least 1"])
    param: str | None = Field(description="the field to mend, where there is one")


class ErrorAnswer(BaseModel):
    error: ErrorDetail


def error_answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors a route may answer with."""
    return {code: {"model": ErrorAnswer} for code in codes}
