"""BentoML: a picture as Pillow reads it, adaptive batches, a worker a core."""

from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from benchmarks.peers.classifier import BATCHES, Classifier, pixels


@bentoml.service(workers="cpu_count")
class Pictures:
    def __init__(self) -> None:
        self.classifier = Classifier(BATCHES)

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)  # type: ignore[untyped-decorator]
    def classify(self, images: list[Image]) -> list[dict[str, Any]]:
        return self.classifier.classify(np.stack([pixels(image) for image in images]))
