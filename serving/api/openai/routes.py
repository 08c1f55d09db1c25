"""The endpoints of OpenAI's API that a text model without a chat can answer."""

from time import time

from fastapi import APIRouter, Request, Response

from serving.api.jobs.texts import generations
from serving.api.jobs.together import Together
from serving.api.openai.completions import Answer, CompletionStream, TokenLogs
from serving.api.openai.errors import OpenAIRoute, error_answers
from serving.api.openai.schemas import (
    Completion,
    CompletionRequest,
    OpenAIModel,
    OpenAIModelList,
)
from serving.api.openapi import body_content, described
from serving.api.requests import JSON, read_json
from serving.api.streaming import server_timing
from serving.engines.opened import Wish
from serving.models.load import TextModel
from serving.service import Service

COMPLETIONS = "/v1/completions"
CHUNKS = {
    "description": "The texts; with `stream: true` as server-sent events, of which each has the "
    "new text of one choice",
    "content": {
        "text/event-stream": {
            "example": 'data: {"id": "cmpl-5f3a", "object": "text_completion", "created": '
            '1795000000, "model": "luminanet", "system_fingerprint": "fp_0123456789ab", "choices": '
            '[{"text": " girl", "index": 0, "logprobs": null, "finish_reason": null}]}\n\n'
            "data: [DONE]\n\n",
        }
    },
}


def build_router(service: Service) -> APIRouter:
    router = APIRouter(route_class=OpenAIRoute)
    started_s = int(time())

    def card(model: TextModel, called: str) -> OpenAIModel:
        name, context = model.manifest.name, model.manifest.context
        return OpenAIModel(id=called, created=started_s, root=name, max_model_len=context)

    @router.post(
        COMPLETIONS,
        response_model=Completion,
        responses={200: CHUNKS, **error_answers(400, 404, 413, 415, 429, 500, 503, 504)},
        openapi_extra=body_content({JSON: described(CompletionRequest)}),
    )
    async def complete(request: Request) -> Response:
        """Continues texts as OpenAI's completions do, with OpenAI's defaults. Every prompt gets n
        choices: all of them wait together, or the answer is a 429."""
        body = await read_json(request, CompletionRequest)
        body.check_supported()
        model, engine = service.text(body.model)
        wish = Wish(body.logprobs or 0, prompt=body.echo and body.logprobs is not None)
        together = await generations(body, wish, model, service.settings, request)
        service.submit(engine, *together.jobs)
        answer = _answer(body, model, together, request)
        if body.stream:
            return CompletionStream(answer, body.with_usage, service.settings.heartbeat_seconds)
        text = (await answer.whole(request.receive)).model_dump_json()
        return Response(text, headers=server_timing(*together.jobs), media_type=JSON)

    @router.get("/v1/models")
    async def models() -> OpenAIModelList:
        """The text models of this server; /models tells more of them."""
        there = service.models
        return OpenAIModelList(data=[card(model, there.called(model)) for model in there.texts])

    @router.get("/v1/models/{model}", responses=error_answers(404))
    async def model_of_name(model: str) -> OpenAIModel:
        """One of them, by its id or the name of its artifact."""
        return card(service.text(model)[0], model)

    return router


def _answer(
    body: CompletionRequest, model: TextModel, together: Together, request: Request
) -> Answer:
    head = {
        "id": f"cmpl-{request.state.request_id}",
        "object": "text_completion",
        "created": int(time()),
        "model": body.model,
        "system_fingerprint": f"fp_{model.fingerprint[:12]}",
    }
    echoes = [model.tokenizer.decode(j.prompt) if body.echo else "" for j in together.jobs]
    logs = None
    if body.logprobs is not None:
        logs = [TokenLogs(model.tokenizer, body.logprobs > 0) for _ in together.jobs]
    return Answer(together, head, echoes, logs)
