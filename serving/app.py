"""create_app: settings and models -> the whole HTTP application. No global state."""

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from serving import keys, page
from serving.api import health, reference, routes, tokens
from serving.api.access import PROBES, Access
from serving.api.answers import answer
from serving.api.jobs import texts
from serving.api.middleware import (
    REQUEST_ID,
    BodyLimit,
    Direct,
    HeadAsGet,
    RequestMetrics,
    RootPath,
)
from serving.api.oip import routes as oip
from serving.api.openai import routes as openai
from serving.api.streaming import SERVER_TIMING
from serving.errors import ApiError, ClientGoneError, InternalError, MethodError, PathError
from serving.metrics.families import Metrics
from serving.models.load import Models
from serving.service import Service
from serving.settings import Settings

DESCRIPTION = """Text and images through LuminaNet, a network that changes its own architecture.

Every error is `{"error": {"type", "message", "param"}}`; 429 and 503 carry `Retry-After`. A field
that may be absent may also be `null`, which says the same."""
SENT_BY_PAGES = ("Authorization", "Content-Type", REQUEST_ID)
READ_BY_PAGES = (REQUEST_ID, SERVER_TIMING, "Retry-After", "WWW-Authenticate")


def create_app(settings: Settings, models: Models) -> FastAPI:
    """The application; `app.state.service` is what a server drains before it exits.

    Raises ConfigError when its API keys cannot be read, and ArtifactError when a network fails its
    first runs, which happen here.
    """
    accepted, admins = (
        keys.read(file) if file else None
        for file in (settings.api_keys_file, settings.admin_key_file)
    )
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
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # else asked for each time
    )
    app.state.service = service
    work, watch = routes.build_router(service), health.build_router(service)
    spoken = (
        openai.build_router(service),
        tokens.build_router(service),
        oip.build_router(service, app.version),
    )
    ruled = [health.build_admin_router(service)] if admins else []
    for router in (work, watch, *spoken, *ruled):
        app.include_router(router)
    app.include_router(page.build_router(lambda: service.models))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference.render(app.openapi()))

    _handle_errors(app)
    asked_most = {
        route.path: route.endpoint for route in work.routes if isinstance(route, APIRoute)
    }
    app.add_middleware(Direct, endpoints=asked_most)  # the innermost
    routers: list[FastAPI | APIRouter] = [app, work, watch, *spoken, *ruled]
    paths = {getattr(route, "path", "") for router in routers for route in router.routes}
    _add_middleware(app, service, accepted, admins, frozenset(paths))
    return app


def _add_middleware(
    app: FastAPI,
    service: Service,
    accepted: keys.Keys | None,
    admins: keys.Keys | None,
    paths: frozenset[str],
) -> None:
    """From the inside out: a preflight has no key, and whatever is answered is counted."""
    settings = service.settings

    def most_bytes(path: str) -> int:
        if path.startswith((routes.CLASSIFY, oip.MODELS)):
            return settings.max_body_bytes
        prompts = texts.LONG_PROMPTS if path in (routes.GENERATE, openai.COMPLETIONS) else 1
        return texts.text_bytes(service.models, settings.max_body_bytes, prompts)

    app.add_middleware(BodyLimit, limit=most_bytes)
    app.add_middleware(HeadAsGet)
    if admins:
        app.add_middleware(Access, keys=admins, rate=0, guards=lambda path: path == health.RELOAD)
    if accepted:
        opened = PROBES | page.public() | ({health.RELOAD} if admins else set())

        def closed(path: str) -> bool:
            return path not in opened

        app.add_middleware(Access, keys=accepted, rate=settings.rate_limit, guards=closed)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=SENT_BY_PAGES,
            expose_headers=READ_BY_PAGES,
        )
    app.add_middleware(RequestMetrics, metrics=service.metrics, routes=paths)
    app.add_middleware(RootPath, root_path=settings.root_path)


def _handle_errors(app: FastAPI) -> None:
    def told(error: ApiError, request: Request) -> JSONResponse:
        return answer(error, get_route_path(request.scope))

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return told(error, request)

    @app.exception_handler(HTTPException)
    async def routing_error(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path[:200]
        if error.status_code != 405:
            return told(PathError(f"there is no {path}: see /docs"), request)
        allowed = (error.headers or {})["Allow"]
        wrong = MethodError(f"{path} does not take {request.method}: use {allowed}")
        refused = told(wrong, request)
        refused.headers["Allow"] = allowed
        return refused

    @app.exception_handler(ClientDisconnect)
    async def client_gone(request: Request, _: Exception) -> JSONResponse:
        return told(ClientGoneError("the client closed the connection"), request)

    @app.exception_handler(Exception)
    async def our_fault(request: Request, _: Exception) -> JSONResponse:
        """Answered outside of all middleware, and the server closes the connection after it."""
        failed = told(InternalError("the server failed; its log says why"), request)
        failed.headers["Connection"] = "close"
        failed.headers[REQUEST_ID] = request.state.request_id
        return failed


def _version() -> str:
    try:
        return importlib.metadata.version("luminanet")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0"
