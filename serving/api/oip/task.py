"""A model as the protocol sees it: its interface, and how the rows of a call go through its
engine."""

from abc import ABC, abstractmethod

from starlette.requests import Request

from serving.api.oip.schemas import VERSION, ModelMetadata
from serving.api.oip.tensors import Tensor
from serving.api.oip.wire import Call, Interface
from serving.models.load import ImageModel, TextModel

PLATFORM = "onnxruntime_onnx"


class Task(ABC):
    """One model and its engine."""

    def __init__(self, model: ImageModel | TextModel, interface: Interface, max_bytes: int) -> None:
        """`max_bytes` of the body of a request."""
        self.model = model
        self.manifest = model.manifest
        self.interface = interface
        self.max_bytes = max_bytes

    @abstractmethod
    async def infer(self, call: Call, request: Request) -> list[Tensor]:
        """All outputs; raises ApiError. The rows of a call wait together, and leave together when
        the client does."""

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.manifest.name,
            versions=[VERSION],
            platform=PLATFORM,
            inputs=list(self.interface.inputs),
            outputs=list(self.interface.outputs),
        )
