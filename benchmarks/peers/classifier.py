"""Pictures -> labels with onnxruntime and Pillow, as one writes it for a server. Knows nothing of
ours but the files of an artifact."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

ARTIFACT = "PEERS_ARTIFACT"
"""The variable that names the folder of the artifact."""
SIZE = (32, 32)
GRAPH, BATCHES = "model.onnx", "model.batch.onnx"
"""The graph that is fastest for one picture, and for many."""


class Classifier:
    """One thread: a server that wants more starts more workers."""

    def __init__(self, graph: str) -> None:
        folder = Path(os.environ[ARTIFACT])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            folder / graph, options, providers=["CPUExecutionProvider"]
        )
        self._labels = json.loads((folder / "manifest.json").read_text("utf-8"))["labels"]

    def classify(self, images_BCYX: NDArray[np.float32]) -> list[dict[str, object]]:
        """An answer for each."""
        (logits_BN,) = self._session.run(None, {"images": images_BCYX})
        weights_BN = np.exp(logits_BN - logits_BN.max(axis=1, keepdims=True))
        shares_BN = (weights_BN / weights_BN.sum(axis=1, keepdims=True)).tolist()
        return [self._answer(shares_N) for shares_N in shares_BN]

    def _answer(self, shares_N: Sequence[float]) -> dict[str, object]:
        best = max(range(len(shares_N)), key=shares_N.__getitem__)
        named = dict(zip(self._labels, shares_N, strict=True))
        return {"label": self._labels[best], "index": best, "probabilities": named}


def pixels(image: Image.Image) -> NDArray[np.float32]:
    """[3, 32, 32] in 0..1."""
    small = image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(255)


def read(data: bytes) -> NDArray[np.float32]:
    return pixels(Image.open(io.BytesIO(data)))
