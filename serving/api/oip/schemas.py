"""Requests and answers of the protocol, as JSON.

Parts of a request are checked one by one, each by `checked`, so that what is wrong in one of them
builds no error for the others.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, FailFast, Field, ValidationError, WithJsonSchema

from serving.api.requests import explain, known
from serving.api.schemas import MAX_INT, Body
from serving.errors import RequestError

VERSION = "1"
"""Of every model: an artifact replaces another, and is no version of it."""
Datatype = Literal["BYTES", "UINT8", "INT64", "FP32"]
MAX_DIMENSIONS = 8
MAX_ID_CHARACTERS = 256


class Part(BaseModel):
    """Of a body."""

    model_config = Body.model_config


P = TypeVar("P", bound=BaseModel)


def checked(given: Mapping[str, Any], schema: type[P], where: str = "") -> P:
    """Raises RequestError, which says where."""
    try:
        return schema.model_validate(known(given, schema))
    except (ValidationError, RequestError) as error:
        told = explain(error) if isinstance(error, ValidationError) else error
        message = f"{where}: {told.message}" if where else told.message
        raise RequestError(message, where or told.param) from error


# ---------------------------------------------------------------------- requests


class InputParameters(Part):
    binary_data_size: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INT,
        description="bytes of this tensor behind the JSON, in the order of the inputs",
    )


class InputTensor(Part):
    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=MAX_INT)]], FailFast()] = Field(
        max_length=MAX_DIMENSIONS
    )
    datatype: str
    parameters: dict[str, Any] = Field(default={}, description="binary_data_size")
    data: list[Any] | None = Field(
        default=None,
        description="all elements, flat or as nested as the shape; not where they come as bytes",
    )


class OutputParameters(Part):
    binary_data: bool | None = Field(
        default=None, description="answer it as bytes behind the JSON; else binary_data_output"
    )
    classification: int | None = Field(
        default=None, ge=1, description="answer so many of the best classes, as texts"
    )


class RequestedOutput(Part):
    name: str
    parameters: dict[str, Any] = Field(default={}, description="binary_data, classification")


Inputs = Annotated[dict[str, Any], WithJsonSchema(InputTensor.model_json_schema())]
Outputs = Annotated[dict[str, Any], WithJsonSchema(RequestedOutput.model_json_schema())]


class InferRequest(Body):
    id: str | None = Field(
        default=None, max_length=MAX_ID_CHARACTERS, description="answered as it is"
    )
    model_name: str | None = Field(default=None, description="taken; the path names the model")
    model_version: str | None = Field(default=None, description="taken; the path may name it")
    parameters: dict[str, Any] = Field(
        default={},
        description="binary_data_output: answer all outputs as bytes; of a text model also "
        "max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed and stop, as "
        "/generate takes them",
        examples=[{"max_tokens": 20, "seed": 1}],
    )
    inputs: Annotated[list[Inputs], FailFast()] = Field(
        description="the one tensor that the model takes, for each of its rows a text or a picture",
        examples=[
            [
                {
                    "name": "prompt",
                    "datatype": "BYTES",
                    "shape": [2],
                    "data": ["Once upon a time", "The little dog"],
                }
            ]
        ],
    )
    outputs: Annotated[list[Outputs], FailFast()] = Field(
        default=[], description="those to be answered; all when there are none"
    )


class IndexRequest(Part):
    repository_name: str | None = Field(default=None, description="taken, and changes nothing")
    ready: bool = Field(default=False, description="only models that are ready")


# ---------------------------------------------------------------------- answers


class ServerLive(BaseModel):
    live: bool


class ServerReady(BaseModel):
    ready: bool


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1 is free: as many rows as a request has")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata] = Field(description="a request sends one of them")
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    name: str
    ready: bool


class ModelIndex(BaseModel):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class OutputTensor(BaseModel):
    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, int] | None = Field(default=None, description="binary_data_size")
    data: list[int] | list[float] | list[str] | None = Field(
        default=None, description="all elements, flat; not where they come as bytes"
    )


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class Duration(BaseModel):
    count: int = 0
    ns: int = 0


class InferStatistics(BaseModel):
    success: Duration = Field(description="requests of this protocol that were answered")
    fail: Duration = Field(description="and those that were not")
    queue: Duration = Field(description="rows of all clients of the model, and their wait")
    compute_input: Duration = Field(description="not timed")
    compute_infer: Duration = Field(description="calls of the network for all clients")
    compute_output: Duration = Field(description="not timed")
    cache_hit: Duration = Field(description="no answer is kept")


class ModelStatistics(BaseModel):
    name: str
    version: str
    last_inference: int = Field(description="in ms since 1970; 0: none yet")
    inference_count: int = Field(description="rows of the requests that were answered")
    execution_count: int = Field(description="calls of the network for all clients")
    inference_stats: InferStatistics
    batch_stats: list[dict[str, Any]] = Field(description="empty: not kept by size")


class Statistics(BaseModel):
    model_stats: list[ModelStatistics]
