"""Our errors in OpenAI's words: {"error": {"message", "type", "param", "code"}}."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from serving import errors
from serving.errors import ApiError, ModelNotLoadedError, RequestError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OpenAIErrorDetail(BaseModel):
    message: str = Field(examples=["max_tokens: input should be greater than or equal to 1"])
    type: str = Field(
        description="invalid_request_error, rate_limit_error or server_error",
        examples=["invalid_request_error"],
    )
    param: str | None = Field(description="the field to mend, where there is one")
    code: str = Field(examples=["invalid_request"])


class OpenAIErrorAnswer(BaseModel):
    error: OpenAIErrorDetail


class OpenAIRoute(APIRoute):
    """A route whose errors are told as clients of OpenAI read them."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                return await handler(request)
            except ApiError as error:
                return JSONResponse(body(error), status(error), errors.headers(error))

        return translated


def status(error: ApiError) -> int:
    """Fields that are refused are a 400 there: clients raise BadRequestError for it."""
    return 400 if isinstance(error, RequestError) else errors.status(error)


def body(error: ApiError) -> dict[str, dict[str, str | None]]:
    code = errors.STATUS[type(error)][1]
    if isinstance(error, ModelNotLoadedError):
        code = "model_not_found"
    detail = OpenAIErrorDetail(
        message=error.message, type=_kind(status(error)), param=error.param, code=code
    )
    return OpenAIErrorAnswer(error=detail).model_dump()


def error_answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors a route may answer with."""
    return {code: {"model": OpenAIErrorAnswer} for code in codes}


def _kind(code: int) -> str:
    if code == 429:
        return "rate_limit_error"
    return "server_error" if code >= 500 else "invalid_request_error"
