"""The endpoints: read and check a request, give it to an engine, shape the answer."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from serving.api import schemas
from serving.api.forms import Picture
from serving.api.requests import JSON, MULTIPART, read_json, read_picture
from serving.api.schemas import ClassifyRequest, GenerateRequest, described, error_answers
from serving.api.streaming import (
    EventStream,
    Telling,
    joined,
    result,
    server_timing,
    token_usage,
    whole,
)
from serving.engines.detokenize import Transcript
from serving.engines.images import Classification, Probabilities
from serving.engines.opened import Wish
from serving.engines.text import Generation
from serving.errors import InternalError, RequestError
from serving.models.load import Models, TextModel
from serving.service import Service
from serving.settings import Settings

EVENTS = {
    "description": "The text; with `stream: true` as server-sent events, of which each holds what "
    "one call of the network gave: up to as many tokens as the server's setting `steps`. With "
    "`logprobs: true` each has those of its tokens, and its text may be empty",
    "content": {
        "text/event-stream": {
            "example": 'data: {"text": " girl"}\n\ndata: {"finish_reason": "length", "usage": '
            '{"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}, "model": '
            '"luminanet", "seed": 7}\n\ndata: [DONE]\n\n',
        }
    },
}
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP"},
        "top_k": {"type": "integer", "minimum": 1, "default": 5},
        "model": {"type": "string", "default": "luminanet", "description": "who looks"},
    },
}


CLASSIFY = "/classify"
ESCAPED_BYTES = 12
"""Of a character in JSON at most: two escapes of UTF-16."""
OTHER_BYTES = 8192 + 64 * schemas.MAX_BIASES
"""For all fields beside the prompt, stop strings and biases included, and white space."""
SEED_BITS = 53
"""Of a seed that is chosen here: readers of JSON that hold doubles give it back whole."""
LONG_PROMPTS = 16
"""Where a body may have several prompts, it may have as many bytes as so many of the longest."""


def text_bytes(models: Models, most: int, prompts: int = 1) -> int:
    """Bytes that the body of a request with so many of the longest prompts can need, up to
    `most`."""
    characters = (m.manifest.context * m.longest_token for m in models.texts)
    return min(most, prompts * (ESCAPED_BYTES * max(characters, default=0) + OTHER_BYTES))


def build_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/generate",
        response_model=schemas.GenerateResponse,
        responses={200: EVENTS, **error_answers(400, 404, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=body_content({JSON: described(GenerateRequest)}),
    )
    async def generate(request: Request) -> Response:
        """Continues a text with LuminaNet, or with the GPT-2 baseline it is compared with."""
        body = await read_json(request, GenerateRequest)
        model, engine = service.text(body.model)
        seed = secrets.randbits(SEED_BITS) if body.seed is None else body.seed
        job = generation(body, model, service.settings, seed, request)
        telling = Telling(model.tokenizer, body.logprobs, body.top_logprobs > 0)
        echo = model.tokenizer.decode(job.prompt) if body.echo else ""
        service.submit(engine, job)
        if body.stream:
            ending = {"model": body.model, "seed": seed}
            heartbeat_s = service.settings.heartbeat_seconds
            return EventStream(job, ending, telling, heartbeat_s, echo)
        pieces = await whole(job, request.receive)
        told = [telling(piece) for piece in pieces if piece.of_prompt]
        text = joined([piece for piece in pieces if not piece.of_prompt])
        return json_answer(
            schemas.GenerateResponse(
                text=echo + text.text,
                finish_reason=str(text.finish),
                usage=token_usage(job),
                model=body.model,
                seed=seed,
                **telling(text),
                **(told[0] if told else {}),
            ),
            server_timing(job),
        )

    @router.post(
        CLASSIFY,
        response_model=schemas.ClassifyResponse,
        responses=error_answers(400, 404, 413, 415, 422, 429, 500, 503, 504),
        openapi_extra=body_content({MULTIPART: FORM, JSON: described(ClassifyRequest)}),
    )
    async def classify(request: Request) -> Response:
        """Says what a picture shows. It is seen as on a white page: what is transparent is white,
        a colour profile (of RGB or grey, without tables) is brought to sRGB, EXIF turns it upright.
        Then it is scaled to 32x32, whatever its aspect; a large JPEG is decoded at 1/2 to 1/8 of
        its size first, which moves a probability by up to 0.02. Of an animation the first picture
        counts."""
        asked = await read_picture(request, service.settings.max_body_bytes)
        model, engine = service.image(asked.model)
        labels = model.manifest.labels
        if asked.top_k > len(labels):
            raise RequestError(
                f"top_k is {asked.top_k}; the model has {len(labels)} classes: ask for fewer",
                "top_k",
            )
        job = Classification(asked.data, request.state.arrived_s, request.state.request_id)
        service.submit(engine, job)
        found = await result(job, request.receive)
        return json_answer(_classified(labels, found, asked), server_timing(job))

    return router


def generation(
    body: GenerateRequest, model: TextModel, settings: Settings, seed: int, request: Request
) -> Generation:
    """Raises RequestError when the prompt or max_tokens is above a limit."""
    max_tokens = settings.default_max_tokens if body.max_tokens is None else body.max_tokens
    check_length(max_tokens, body.min_tokens, body.echo or body.prompt_logprobs, settings)
    model.known(list(body.logit_bias), "logit_bias")
    return Generation(
        model.encode(body.prompt),
        Transcript(model.tokenizer.stream(), body.stop, body.min_tokens),
        body.sampling(seed, model.manifest.end_id),
        max_tokens,
        request.state.arrived_s,
        request.state.request_id,
        wish=Wish(body.top_logprobs, body.prompt_logprobs),
        ignore_eos=body.ignore_eos,
    )


def check_length(max_tokens: int, min_tokens: int, may_be_0: bool, settings: Settings) -> None:
    """Raises RequestError."""
    if not (max_tokens or may_be_0):
        raise RequestError("max_tokens is 0: without echo it must be at least 1", "max_tokens")
    if min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens is {min_tokens}, more than the {max_tokens} of max_tokens: lower it",
            "min_tokens",
        )
    if max_tokens > settings.max_tokens_limit:
        raise RequestError(
            f"max_tokens is {max_tokens}; this server allows 1 to {settings.max_tokens_limit}",
            "max_tokens",
        )


def _classified(
    labels: Sequence[str], probabilities_N: Probabilities, asked: Picture
) -> schemas.ClassifyResponse:
    finite(probabilities_N)
    best = np.argsort(-probabilities_N, kind="stable")[: asked.top_k].tolist()
    top = [
        schemas.Prediction(label=labels[i], index=i, probability=probabilities_N[i]) for i in best
    ]
    return schemas.ClassifyResponse(
        label=top[0].label,
        index=top[0].index,
        probabilities=dict(zip(labels, probabilities_N.tolist(), strict=True)),
        top_k=top,
        model=asked.model,
    )


def json_answer(answer: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    return Response(answer.model_dump_json(exclude_none=True), headers=headers, media_type=JSON)


def body_content(content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """OpenAPI's description of a body, by media type."""
    described = {kind: {"schema": schema} for kind, schema in content.items()}
    return {"requestBody": {"required": True, "content": described}}


def finite(probabilities: Probabilities) -> Probabilities:
    """Raises InternalError."""
    if not np.isfinite(probabilities).all():
        raise InternalError("the network's answer is not finite")
    return probabilities
