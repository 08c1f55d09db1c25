"""Text generation: what /generate does, for several prompts."""

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from serving.api.oip.schemas import TensorMetadata
from serving.api.oip.task import Task, naming
from serving.api.oip.tensors import Tensor
from serving.api.oip.wire import Call, Interface
from serving.api.requests import explain
from serving.api.routes import LONG_PROMPTS, SEED_BITS, generation, text_bytes
from serving.api.schemas import MAX_INT, GenerateRequest
from serving.api.together import Together
from serving.engines.text import Generation, TextEngine
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


class Texts(Task):
    def __init__(self, service: Service, model: TextModel, engine: TextEngine) -> None:
        most = service.settings.max_body_bytes
        super().__init__(
            model,
            interface(service.settings.queue_limit),
            min(most, LONG_PROMPTS * text_bytes(service.models, most)),
        )
        self._service, self._model, self._engine = service, model, engine

    async def infer(self, call: Call, request: Request) -> list[Tensor]:
        if any(output.classes for output in call.outputs):
            raise RequestError("texts have no classes: leave classification out", "outputs")
        prompts = _prompts(call.input)
        body = _as_generate(prompts[0], call.parameters)
        seed = secrets.randbits(SEED_BITS) if body.seed is None else body.seed
        seeds = [(seed + row) % (MAX_INT + 1) for row in range(len(prompts))]
        jobs = await run_in_threadpool(self._jobs, body, prompts, seeds, request)
        self._service.submit(self._engine, *jobs)
        texts = await Together(jobs).wholes(request.receive)
        return [
            Tensor.of(TEXT, [text.text for text in texts]),
            Tensor.of(FINISH, [str(text.finish) for text in texts]),
            Tensor.of(PROMPT_TOKENS, np.array([len(job.prompt) for job in jobs], np.int64)),
            Tensor.of(COMPLETION_TOKENS, np.array([job.tokens for job in jobs], np.int64)),
            Tensor.of(SEED, np.array(seeds, np.int64)),
        ]

    def _jobs(
        self,
        body: GenerateRequest,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: Request,
    ) -> list[Generation]:
        """Raises RequestError."""
        jobs: list[Generation] = []
        for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            own = body.model_copy(update={PROMPT: prompt})
            with naming(f"{PROMPT}[{row}]", PROMPT):
                jobs.append(generation(own, self._model, self._service.settings, seed, request))
        return jobs


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


def _as_generate(prompt: str, parameters: dict[str, Any]) -> GenerateRequest:
    """Parameters with the defaults and checks of /generate. Raises RequestError."""
    try:
        return GenerateRequest.model_validate({PROMPT: prompt, **parameters})
    except ValidationError as error:
        raise explain(error) from error
