"""Text <-> the tokens of a model, in the form of vLLM's /tokenize and /detokenize."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, FailFast, Field

from serving.api.openapi import body_content, described
from serving.api.requests import JSON, read_json
from serving.api.routes import json_answer
from serving.api.schemas import Body, error_answers
from serving.api.streaming import token_text
from serving.service import Service

ERRORS = error_answers(400, 404, 413, 415, 422)


class TokenizeRequest(Body):
    model: str = Field(default="luminanet", description="whose tokens: see /models")
    prompt: str = Field(
        description="text of at most as many tokens as the model's context",
        examples=["Once upon a time"],
    )
    return_token_strs: bool = Field(default=False, description="answer token_strs as well")
    add_special_tokens: bool = Field(
        default=True, description="taken, and changes nothing: no prompt has any here"
    )


class TokenizeResponse(BaseModel):
    count: int
    max_model_len: int = Field(description="tokens that one prediction can see")
    tokens: list[int]
    token_strs: list[str] | None = Field(
        default=None,
        description="the text of each; bytes that are no whole characters as bytes:\\x..",
    )


class DetokenizeRequest(Body):
    model: str = Field(default="luminanet", description="whose tokens: see /models")
    tokens: Annotated[list[int], FailFast()] = Field(
        description="at most as many as the model's context", examples=[[1, 2, 3]]
    )


class DetokenizeResponse(BaseModel):
    prompt: str = Field(description="the text; of the end-of-text token there is none")


def build_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/tokenize",
        response_model=TokenizeResponse,
        responses=ERRORS,
        openapi_extra=body_content({JSON: described(TokenizeRequest)}),
    )
    async def tokenize(request: Request) -> Response:
        """The tokens of a text: as many as usage.prompt_tokens of a request with this prompt."""
        body = await read_json(request, TokenizeRequest)
        model, _ = service.text(body.model)
        ids = model.encode(body.prompt)
        texts = [token_text(model.tokenizer, token) for token in ids]
        return json_answer(
            TokenizeResponse(
                count=len(ids),
                max_model_len=model.manifest.context,
                tokens=ids,
                token_strs=texts if body.return_token_strs else None,
            )
        )

    @router.post(
        "/detokenize",
        response_model=DetokenizeResponse,
        responses=ERRORS,
        openapi_extra=body_content({JSON: described(DetokenizeRequest)}),
    )
    async def detokenize(request: Request) -> Response:
        """The text of tokens; what is only a part of a character becomes U+FFFD."""
        body = await read_json(request, DetokenizeRequest)
        model, _ = service.text(body.model)
        text = model.tokenizer.decode(model.check(body.tokens, "tokens"))
        return json_answer(DetokenizeResponse(prompt=text))

    return router
