"""Text generation: what /generate does, for several prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError
from starlette.requests import Request

from serving.api.jobs.texts import LONG_PROMPTS, generations, text_bytes
from serving.api.jobs.together import joined
from serving.api.oip.schemas import TensorMetadata
from serving.api.oip.task import Task
from serving.api.oip.tensors import Tensor
from serving.api.oip.wire import Call, Interface
from serving.api.requests import explain
from serving.api.schemas import GenerateRequest
from serving.engines.opened import Wish
from serving.engines.text import TextEngine
from serving.errors import RequestError
from serving.models.load import TextModel
from serving.service import Service

PROMPT = "prompt"
TEXT, FINISH, SEED = "text", "finish_reason", "seed"
PROMPT_TOKENS, COMPLETION_TOKENS = "prompt_tokens", "completion_tokens"
PARAMETERS = (
    "max_tokens",
    "min_tokens",
    "ignore_eos",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
)
"""Fields of /generate."""


def interface(max_rows: int) -> Interface:
    return Interface(
        inputs=(TensorMetadata(name=PROMPT, datatype="BYTES", shape=[-1]),),
        outputs=(
            TensorMetadata(name=TEXT, datatype="BYTES", shape=[-1]),
            TensorMetadata(name=FINISH, datatype="BYTES", shape=[-1]),
            TensorMetadata(name=PROMPT_TOKENS, datatype="INT64", shape=[-1]),
            TensorMetadata(name=COMPLETION_TOKENS, datatype="INT64", shape=[-1]),
            TensorMetadata(name=SEED, datatype="INT64", shape=[-1]),
        ),
        parameters=PARAMETERS,
        max_rows=max_rows,
    )


class Writer(Task):
    def __init__(self, service: Service, model: TextModel, engine: TextEngine) -> None:
        most = service.settings.max_body_bytes
        super().__init__(
            model,
            interface(service.settings.queue_limit),
            text_bytes(service.models, most, LONG_PROMPTS),
        )
        self._service, self._model, self._engine = service, model, engine

    async def infer(self, call: Call, request: Request) -> list[Tensor]:
        if any(output.classes for output in call.outputs):
            raise RequestError("texts have no classes: leave classification out", "outputs")
        body = _as_generate(_prompts(call.input), call.parameters)
        together = await generations(body, Wish(), self._model, self._service.settings, request)
        jobs = together.jobs
        self._service.submit(self._engine, *jobs)
        texts = [joined(pieces) for pieces in await together.each(request.receive)]
        return [
            Tensor.of(TEXT, [text.text for text in texts]),
            Tensor.of(FINISH, [str(text.finish) for text in texts]),
            Tensor.of(PROMPT_TOKENS, np.array([len(job.prompt) for job in jobs], np.int64)),
            Tensor.of(COMPLETION_TOKENS, np.array([job.tokens for job in jobs], np.int64)),
            Tensor.of(SEED, np.array([job.sampling.seed for job in jobs], np.int64)),
        ]


def _prompts(tensor: Tensor) -> list[str]:
    """Raises RequestError."""
    prompts: list[str] = []
    for number, item in enumerate(tensor.elements):
        if not item:
            raise RequestError(f"{PROMPT}[{number}] is empty: send a text to continue", PROMPT)
        try:
            prompts.append(item if isinstance(item, str) else item.decode())
        except UnicodeDecodeError as error:
            raise RequestError(f"{PROMPT}[{number}] is not UTF-8", PROMPT) from error
    return prompts


def _as_generate(prompts: Sequence[str], parameters: dict[str, Any]) -> GenerateRequest:
    """Parameters with the defaults and checks of /generate. Raises RequestError."""
    try:
        return GenerateRequest.model_validate({PROMPT: prompts, **parameters})
    except ValidationError as error:
        raise explain(error) from error
