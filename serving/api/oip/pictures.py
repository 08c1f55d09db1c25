"""Image classification, of files or of decoded pixels.

Shape legend: B rows of a request, N classes.
"""

from collections.abc import Sequence

import numpy as np
from starlette.requests import Request

from luminanet.artifact.manifest import Manifest
from luminanet.interface import IMAGE_SHAPE, IMAGES
from serving.api import encoded
from serving.api.jobs.pictures import Pictures, see
from serving.api.jobs.together import naming
from serving.api.oip.schemas import TensorMetadata
from serving.api.oip.task import Task
from serving.api.oip.tensors import Tensor
from serving.api.oip.wire import Asked, Call, Interface
from serving.engines.images import ImageEngine, Probabilities
from serving.errors import RequestError
from serving.models.load import ImageModel
from serving.pictures.pixels import unit
from serving.service import Service

ENCODED = "encoded"
PROBABILITIES, LABEL, INDEX = "probabilities", "label", "index"


def interface(manifest: Manifest, max_rows: int) -> Interface:
    return Interface(
        inputs=(
            TensorMetadata(name=ENCODED, datatype="BYTES", shape=[-1]),
            TensorMetadata(name=IMAGES, datatype="UINT8", shape=[-1, *IMAGE_SHAPE]),
        ),
        outputs=(
            TensorMetadata(name=PROBABILITIES, datatype="FP32", shape=[-1, len(manifest.labels)]),
            TensorMetadata(name=LABEL, datatype="BYTES", shape=[-1]),
            TensorMetadata(name=INDEX, datatype="INT64", shape=[-1]),
        ),
        parameters=(),
        max_rows=max_rows,
    )


class Classifier(Task):
    def __init__(self, service: Service, model: ImageModel, engine: ImageEngine) -> None:
        known = service.settings
        super().__init__(model, interface(model.manifest, known.queue_limit), known.max_body_bytes)
        self._service, self._engine = service, engine

    async def infer(self, call: Call, request: Request) -> list[Tensor]:
        labels = self.manifest.labels
        classes = _classes(call.outputs, len(labels))
        seen = await see(_pictures(call.input), self._service, self._engine, request)
        probabilities_BN = np.stack(seen.rows)
        best_B = probabilities_BN.argmax(axis=1)
        return [
            _best(probabilities_BN, labels, classes)
            if classes
            else Tensor.of(PROBABILITIES, probabilities_BN.astype(np.float32)),
            Tensor.of(LABEL, [labels[index] for index in best_B]),
            Tensor.of(INDEX, best_B.astype(np.int64)),
        ]


def _classes(outputs: Sequence[Asked], most: int) -> int | None:
    """How many of the best classes are asked for. Raises RequestError."""
    found = None
    for name, classes in ((output.name, output.classes) for output in outputs):
        if classes is not None and (name != PROBABILITIES or classes > most):
            raise RequestError(
                f"classification is {classes} of {name}: ask for 1 to {most} of {PROBABILITIES}",
                "outputs",
            )
        found = found or classes
    return found


def _pictures(tensor: Tensor) -> Pictures:
    """Raises RequestError for what is no base64, as which JSON has files."""
    names = [f"{tensor.name}[{number}]" for number in range(tensor.shape[0])]
    if isinstance(tensor.elements, np.ndarray):
        return Pictures(list(unit(tensor.elements)), names, listed=True)
    files: list[bytes] = []
    for name, item in zip(names, tensor.elements, strict=True):
        with naming(name, "image"):
            files.append(item if isinstance(item, bytes) else encoded.decode(item))
    return Pictures(files, names, listed=True)


def _best(probabilities_BN: Probabilities, labels: Sequence[str], count: int) -> Tensor:
    """Texts [B, count] in the form of Triton's classification: value:index:label."""
    best_BN = np.argsort(-probabilities_BN, axis=1, kind="stable")[:, :count].tolist()
    texts = [
        f"{probabilities_N[index]:f}:{index}:{labels[index]}"
        for probabilities_N, best_N in zip(probabilities_BN, best_BN, strict=True)
        for index in best_N
    ]
    return Tensor(PROBABILITIES, (len(best_BN), count), texts)
