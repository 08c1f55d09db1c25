"""create_app: settings and models -> the whole HTTP application. No global state."""

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import errors, page
from serving.api import health, routes
from serving.api.middleware import BodyLimit, RequestMetrics
from serving.errors import ApiError, ClientGoneError, InternalError, MethodError, PathError
from serving.metrics.families import Metrics
from serving.models.load import Models
from serving.service import Service
from serving.settings import Settings

DESCRIPTION = """Text and images through LuminaNet, a network that changes its own architecture.

Every error is `{"error": {"type", "message", "param"}}`; 429 and 503 carry `Retry-After`."""


def create_app(settings: Settings, models: Models) -> FastAPI:
    """The application; `app.state.service` is what a server drains before it exits.

    Raises ArtifactError when a network fails its first runs, which happen here.
    """
    service = Service(settings, models, Metrics(_version()))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="LuminaNet",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    work, watch = routes.build_router(service), health.build_router(service)
    app.include_router(work)
    app.include_router(watch)
    app.include_router(page.build_router(models))
    _handle_errors(app)
    paths = {getattr(r, "path", "") for r in (*app.routes, *work.routes, *watch.routes)}
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestMetrics, metrics=service.metrics, routes=frozenset(paths))
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return _answer(error)

    @app.exception_handler(HTTPException)
    async def routing_error(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path[:200]
        if error.status_code != 405:
            return _answer(PathError(f"there is no {path}: see /docs"))
        allowed = (error.headers or {})["Allow"]
        answer = _answer(MethodError(f"{path} does not take {request.method}: use {allowed}"))
        answer.headers["Allow"] = allowed
        return answer

    @app.exception_handler(ClientDisconnect)
    async def client_gone(*_: object) -> JSONResponse:
        return _answer(ClientGoneError("the client closed the connection"))

    @app.exception_handler(Exception)
    async def our_fault(*_: object) -> JSONResponse:
        return _answer(InternalError("the server failed; its log says why"))


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(errors.body(error), errors.status(error), errors.headers(error))


def _version() -> str:
    try:
        return importlib.metadata.version("luminanet")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0"
