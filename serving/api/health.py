"""The endpoints of those who run the server: what is loaded, health, metrics, reload."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serving.api.schemas import error_answers
from serving.errors import ShuttingDownError, UnavailableError
from serving.metrics.exposition import OPENMETRICS, PLAIN, render
from serving.models.load import ImageModel, Models, TextModel
from serving.service import Service

RELOAD = "/admin/reload"


class ModelCard(BaseModel):
    model: str = Field(
        description="what requests call it: its family, if it is the first of this family (and "
        "task), else its name",
        examples=["luminanet"],
    )
    name: str = Field(description="the artifact's name, which requests may use as well")
    task: str
    summary: str
    backend: str
    precision: str = Field(description="what it computes in: fp32 or int8")
    parameters: int
    macs: int = Field(description="multiply-accumulates of one forward; text: per token")
    context: int = Field(description="tokens that one prediction can see; 0 for images")
    labels: list[str]
    figures: dict[str, float] = Field(description="measured when the artifact was made")


class ModelList(BaseModel):
    models: list[ModelCard]


class Health(BaseModel):
    status: Literal["live", "started", "ready"]


def build_router(service: Service) -> APIRouter:
    router = APIRouter()

    def read_metrics(request: Request) -> Response:
        """Prometheus metrics, named luminanet_* and process_*; with exemplars for those who accept
        OpenMetrics."""
        accept = ",".join(request.headers.getlist("accept"))
        text, kind = render(service.metrics.registry, accept)
        return Response(text, headers={"content-type": kind})

    @router.get("/models")
    async def models() -> ModelList:
        """What this server has loaded, and what was measured when it was made."""
        return cards(service.models)

    @router.get("/health/startup", responses=error_answers(503))
    async def startup() -> Health:
        """Whether all models are loaded and warm."""
        if not service.started:
            raise UnavailableError("the models are not loaded yet")
        return Health(status="started")

    @router.get("/health/live", responses=error_answers(503))
    async def live() -> Health:
        """Whether the process works; an answer of 503 means: restart it. Busy is not dead."""
        check_live(service)
        return Health(status="live")

    @router.get("/health", responses=error_answers(503), operation_id="health")
    @router.get("/health/ready", responses=error_answers(503))
    async def ready() -> Health:
        """Whether new work is accepted; not while draining, nor when an engine died. Clients of
        OpenAI's protocol ask for it at /health, where vLLM has it."""
        check_ready(service)
        return Health(status="ready")

    if service.settings.metrics_port is None:
        router.get(
            "/metrics", responses={200: {"content": {kind: {} for kind in (PLAIN, OPENMETRICS)}}}
        )(read_metrics)
    return router


def build_admin_router(service: Service) -> APIRouter:
    """What changes the server, for those with a key of admins."""
    router = APIRouter()

    @router.post(RELOAD, responses=error_answers(401, 409, 422, 503))
    async def reload() -> ModelList:
        """Loads the artifacts anew and answers, as /models does, when they are served. Running
        requests end with what they began with. Where something cannot be loaded, nothing
        changes."""
        await service.reload()
        return cards(service.models)

    return router


def cards(models: Models) -> ModelList:
    return ModelList(models=[_card(model, models.called(model)) for model in models.all])


def _card(model: ImageModel | TextModel, called: str) -> ModelCard:
    manifest = model.manifest
    return ModelCard(
        model=called,
        name=manifest.name,
        task=manifest.task,
        summary=manifest.summary,
        backend=model.backend.name,
        precision=model.precision,
        parameters=manifest.parameters,
        macs=manifest.macs,
        context=manifest.context,
        labels=list(manifest.labels),
        figures=dict(manifest.figures or {}),
    )


def check_live(service: Service) -> None:
    """Raises UnavailableError."""
    if not service.live:
        raise UnavailableError("an engine's thread has ended: restart the server")


def check_ready(service: Service) -> None:
    """Raises ShuttingDownError or UnavailableError."""
    if service.draining:
        raise ShuttingDownError("the server is shutting down")
    if not service.ready:
        raise UnavailableError("the server is not ready")
