"""LitServe: pictures in base64 as in its guide to speed, dynamic batches, a worker a core."""

import base64
import os
import sys
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.classifier import BATCHES, Classifier, read

Pixels = NDArray[np.float32]


class Pictures(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.classifier = Classifier(BATCHES)

    def decode_request(self, request: dict[str, str]) -> Pixels:
        return read(base64.b64decode(request["image"]))

    def batch(self, inputs: list[Pixels]) -> Pixels:
        return np.stack(inputs)

    def predict(self, images: Pixels) -> list[dict[str, Any]]:
        return self.classifier.classify(images)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Pictures(max_batch_size=32, batch_timeout=0.005, api_path="/classify")
    workers = len(os.sched_getaffinity(0))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
