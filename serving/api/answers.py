"""How an error is answered."""

from fastapi.responses import JSONResponse

from serving import errors
from serving.api.oip import errors as oip
from serving.errors import ApiError


def answer(error: ApiError, path: str) -> JSONResponse:
    """In the words of the protocol that the path belongs to."""
    told = oip if oip.speaks(path) else errors
    return JSONResponse(told.body(error), told.status(error), errors.headers(error))
