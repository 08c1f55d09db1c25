"""The endpoints of the Open Inference Protocol, and those of Triton that our engines can answer."""

from collections import defaultdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response

from serving.api.health import check_live, check_ready
from serving.api.oip import wire
from serving.api.oip.errors import ROOT, error_answers
from serving.api.oip.pictures import Classifier
from serving.api.oip.schemas import (
    VERSION,
    IndexRequest,
    InferRequest,
    InferResponse,
    ModelIndex,
    ModelMetadata,
    ModelReady,
    ModelStatistics,
    ServerLive,
    ServerMetadata,
    ServerReady,
    Statistics,
    checked,
)
from serving.api.oip.statistics import Tally
from serving.api.oip.task import Task
from serving.api.oip.texts import Writer
from serving.api.oip.wire import HEADER, OCTETS
from serving.api.openapi import body_content, described
from serving.api.requests import JSON, media_type, parse
from serving.engines.making import labels_of
from serving.errors import (
    BodyTooLargeError,
    MediaTypeError,
    ModelNotLoadedError,
)
from serving.models.load import ImageModel, Models, TextModel
from serving.service import Service

MODEL, MODEL_VERSION = "/models/{name}", "/models/{name}/versions/{version}"
MODELS = f"{ROOT}/models/"
"""How the paths begin whose bodies may have tensors."""
EXTENSIONS = ["binary_tensor_data", "classification", "parameters", "statistics"]
VERSION_OF_PATH = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": f"{VERSION}: every model has this one",
    "schema": {"type": "string"},
}
LENGTH = {
    "name": HEADER,
    "in": "header",
    "description": "bytes of the JSON, where those of tensors follow it",
    "schema": {"type": "integer"},
}
BYTES_BEHIND = {
    "type": "string",
    "format": "binary",
    "description": "the JSON, and behind it the bytes of the input and of outputs: little-endian; "
    "a text or a file of BYTES stands behind its length, of 4 bytes",
}
REQUEST = {
    **body_content({JSON: described(InferRequest), OCTETS: BYTES_BEHIND}),
    "parameters": [LENGTH],
}
ANSWER = {
    "description": "The outputs; with those asked for as bytes behind the JSON",
    "content": {OCTETS: {"schema": BYTES_BEHIND}},
}


def build_router(service: Service, version: str) -> APIRouter:
    """`version` of this server."""
    router = APIRouter(prefix=ROOT)
    tallies: defaultdict[str, Tally] = defaultdict(Tally)

    async def named(request: Request, name: str) -> Task:
        _check_version(request.path_params.get("version", VERSION), name)
        return _task(service, _model(service.models, name))

    Named = Annotated[Task, Depends(named)]

    def told(model: ImageModel | TextModel) -> ModelStatistics:
        manifest = model.manifest
        labels = labels_of(model, service.models.called(model))
        return tallies[manifest.name].told(manifest.name, labels, service.metrics)

    @router.get("")
    async def server() -> ServerMetadata:
        """This server, and which of Triton's extensions of the protocol it has."""
        return ServerMetadata(name="luminanet", version=version, extensions=EXTENSIONS)

    @router.get("/health/live", responses=error_answers(503))
    async def live() -> ServerLive:
        """As /health/live."""
        check_live(service)
        return ServerLive(live=True)

    @router.get("/health/ready", responses=error_answers(503))
    async def ready() -> ServerReady:
        """As /health/ready."""
        check_ready(service)
        return ServerReady(ready=True)

    @router.post("/repository/index", responses=error_answers(400, 413))
    async def index(request: Request) -> list[ModelIndex]:
        """The models; the body may be empty, or {"ready": true}, or false."""
        body = await request.body()
        asked = checked(parse(body), IndexRequest) if body else IndexRequest()
        if asked.ready and not service.ready:
            return []
        state: Literal["READY", "UNAVAILABLE"] = "READY" if service.ready else "UNAVAILABLE"
        return [
            ModelIndex(name=model.manifest.name, version=VERSION, state=state, reason="")
            for model in service.models.all
        ]

    @router.get("/models/stats")
    async def all_statistics() -> Statistics:
        """Counters of all models."""
        return Statistics(model_stats=[told(model) for model in service.models.all])

    async def metadata(model: Named) -> ModelMetadata:
        """What a model takes and gives."""
        return model.metadata()

    async def model_ready(model: Named) -> ModelReady:
        """Whether a model takes requests."""
        check_ready(service)
        return ModelReady(name=model.manifest.name, ready=True)

    async def statistics(model: Named) -> Statistics:
        """Counters of a model."""
        return Statistics(model_stats=[told(model.model)])

    async def infer(model: Named, request: Request) -> Response:
        """Classifies pictures, or continues texts: one input, with a row for each of them. The
        rows wait together, or the answer is a 429. Row i of texts is drawn with the seed + i."""
        tally = tallies[model.manifest.name]
        with tally.counting(request.state.arrived_s):
            body = await _body(request, model.max_bytes)
            call = wire.read(body, request.headers.get(HEADER), model.interface)
            outputs = {tensor.name: tensor for tensor in await model.infer(call, request)}
            tally.answered(call.input.shape[0])
        response = InferResponse(
            model_name=model.manifest.name, model_version=VERSION, id=call.id, outputs=[]
        )
        tensors = [outputs[asked.name] for asked in call.outputs]
        return wire.answer(response, tensors, call.outputs)

    for path, in_path in (MODEL, []), (MODEL_VERSION, [VERSION_OF_PATH]):
        extra = {"parameters": in_path}
        for end, endpoint in ("", metadata), ("/ready", model_ready), ("/stats", statistics):
            router.get(path + end, responses=error_answers(404, 503), openapi_extra=extra)(endpoint)
        router.post(
            path + "/infer",
            response_model=InferResponse,
            responses={200: ANSWER, **error_answers(400, 404, 413, 415, 429, 500, 503, 504)},
            openapi_extra={**REQUEST, "parameters": [LENGTH, *in_path]},
        )(infer)
    return router


def _model(models: Models, name: str) -> ImageModel | TextModel:
    """The artifact with this name, or the default of this family where only one task has one.
    Raises ModelNotLoadedError."""
    defaults = (models.image, *models.text.values())
    found = [model for model in models.all if model.manifest.name == name] or [
        model for model in defaults if model and model.manifest.family == name
    ]
    if len(found) == 1:
        return found[0]
    why = "may mean several models" if found else "is no model that is loaded here"
    names = ", ".join(model.manifest.name for model in found or models.all)
    raise ModelNotLoadedError(f"{name[:64]!r} {why}: there are {names}", "model")


def _check_version(version: str, name: str) -> None:
    """Raises ModelNotLoadedError."""
    if version != VERSION:
        raise ModelNotLoadedError(
            f"{name[:64]!r} has no version {version[:64]!r}: leave it out, or send {VERSION}",
            "version",
        )


def _task(service: Service, model: ImageModel | TextModel) -> Task:
    if isinstance(model, ImageModel):
        return Classifier(service, *service.image(model.manifest.name))
    return Writer(service, *service.text(model.manifest.name))


async def _body(request: Request, max_bytes: int) -> bytes:
    """Raises MediaTypeError or BodyTooLargeError."""
    if media_type(request) not in ("", JSON, OCTETS):
        raise MediaTypeError(
            f"send JSON as {JSON}, or with the bytes of tensors behind it as {OCTETS}",
            "Content-Type",
        )
    body = await request.body()
    if len(body) > max_bytes:
        raise BodyTooLargeError(f"the body has more than {max_bytes} bytes: send a smaller one")
    return body
