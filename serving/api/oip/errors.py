"""Our errors in the words of the Open Inference Protocol: {"error": "what is wrong"}."""

from typing import Any

from pydantic import BaseModel, Field

from serving import errors
from serving.errors import ApiError

ROOT = "/v2"


class InferenceErrorAnswer(BaseModel):
    error: str = Field(examples=["prompt has the shape [0]: send at least one"])


def speaks(path: str) -> bool:
    """Whether clients of this path read these errors."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def status(error: ApiError) -> int:
    """What is refused is a 400 there."""
    code = errors.status(error)
    return 400 if code == 422 else code


def body(error: ApiError) -> dict[str, str]:
    return {"error": error.message}


def error_answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors a route may answer with."""
    return {code: {"model": InferenceErrorAnswer} for code in codes}
