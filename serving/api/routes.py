"""The endpoints: read and check a request, give it to an engine, shape the answer."""

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from pydantic_core import to_json

from serving.api import schemas
from serving.api.jobs.pictures import read_files, see
from serving.api.jobs.texts import generations
from serving.api.jobs.together import joined, usage
from serving.api.openapi import (
    ARRAY,
    FORM,
    PICTURES,
    PROMPTS,
    QUERY,
    WRITTEN,
    body_content,
    described,
)
from serving.api.requests import ARRAYS, JSON, MULTIPART, read_json, read_pictures
from serving.api.schemas import ClassifyRequest, GenerateRequest, error_answers
from serving.api.streaming import EventStream, Telling, server_timing
from serving.engines.images import Probabilities
from serving.engines.opened import Wish
from serving.engines.text import Generation, Piece
from serving.errors import RequestError
from serving.service import Service

CLASSIFY, GENERATE = "/classify", "/generate"


def build_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post(
        GENERATE,
        response_model=schemas.GenerateResponse | schemas.GenerateAnswers,
        responses={200: WRITTEN, **error_answers(400, 404, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=body_content({JSON: described(GenerateRequest)}, {JSON: PROMPTS}),
    )
    async def generate(request: Request) -> Response:
        """Continues a text with LuminaNet, or with the GPT-2 baseline it is compared with. Several
        answers wait together, or the answer is a 429, and leave together when the client does."""
        body = await read_json(request, GenerateRequest)
        model, engine = service.text(body.model)
        wish = Wish(body.top_logprobs, body.prompt_logprobs)
        together = await generations(body, wish, model, service.settings, request)
        jobs = together.jobs
        telling = Telling(model.tokenizer, body.logprobs, body.top_logprobs > 0)
        echoes = [model.tokenizer.decode(job.prompt) if body.echo else "" for job in jobs]
        service.submit(engine, *jobs)
        if body.stream:
            heartbeat_s = service.settings.heartbeat_seconds
            return EventStream(together, telling, body.model, echoes, body.several, heartbeat_s)
        each = zip(jobs, echoes, await together.each(request.receive), strict=True)
        answers = [_written(*one, telling, body.model) for one in each]
        if not body.several:
            return json_answer(answers[0], server_timing(*jobs))
        return json_answer(
            schemas.GenerateAnswers(answers=answers, usage=together.usage(), model=body.model),
            server_timing(*jobs),
        )

    @router.post(
        CLASSIFY,
        response_model=schemas.ClassifyResponse | schemas.ClassifyAnswers,
        responses=error_answers(400, 404, 413, 415, 422, 429, 500, 503, 504),
        openapi_extra={
            **body_content(
                {MULTIPART: FORM, JSON: described(ClassifyRequest), **dict.fromkeys(ARRAYS, ARRAY)},
                {JSON: PICTURES},
            ),
            "parameters": QUERY,
        },
    )
    async def classify(request: Request) -> Response:
        """Says what a picture shows. It is seen as on a white page: what is transparent is white,
        a colour profile (of RGB or grey, without tables) is brought to sRGB, EXIF turns it upright.
        Then it is scaled to 32x32, whatever its aspect; a large JPEG is decoded at 1/2 to 1/8 of
        its size first, which moves a probability by up to 0.02. Of an animation the first picture
        counts. Several pictures wait together, or the answer is a 429; one that is refused is named
        (`file[1]`), and no other is answered."""
        known = service.settings
        files = await read_pictures(request, known.queue_limit)
        model, engine = service.image(files.model)
        labels = model.manifest.labels
        if files.top_k > len(labels):
            raise RequestError(
                f"top_k is {files.top_k}; the model has {len(labels)} classes: ask for fewer",
                "top_k",
            )
        pictures = read_files(files, known.queue_limit)
        seen = await see(pictures, service, engine, request)
        answers = [_classified(labels, row, files.top_k, files.model) for row in seen.rows]
        if not pictures.listed:
            return json_answer(answers[0], server_timing(*seen.jobs))
        return json_answer({"answers": answers, "model": files.model}, server_timing(*seen.jobs))

    return router


def _written(
    job: Generation, echo: str, pieces: Sequence[Piece], telling: Telling, model: str
) -> schemas.GenerateResponse:
    told = [telling(piece) for piece in pieces if piece.of_prompt]
    text = joined([piece for piece in pieces if not piece.of_prompt])
    return schemas.GenerateResponse(
        text=echo + text.text,
        finish_reason=str(text.finish),
        usage=usage([job]),
        model=model,
        seed=job.sampling.seed,
        **telling(text),
        **(told[0] if told else {}),
    )


def _classified(
    labels: Sequence[str], probabilities_N: Probabilities, top_k: int, model: str
) -> schemas.ClassifyResponse:
    shares = probabilities_N.tolist()
    best = sorted(range(len(shares)), key=shares.__getitem__, reverse=True)[:top_k]
    return {
        "label": labels[best[0]],
        "index": best[0],
        "probabilities": dict(zip(labels, shares, strict=True)),
        "top_k": [{"label": labels[i], "index": i, "probability": shares[i]} for i in best],
        "model": model,
    }


def json_answer(
    answer: BaseModel | schemas.ClassifyResponse | schemas.ClassifyAnswers,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(to_json(answer, exclude_none=True), headers=headers, media_type=JSON)
