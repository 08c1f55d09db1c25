"""ApiError -> the answer that a client gets."""

from fastapi.responses import JSONResponse

from serving import errors
from serving.errors import ApiError


def answer(error: ApiError) -> JSONResponse:
    return JSONResponse(errors.body(error), errors.status(error), errors.headers(error))
