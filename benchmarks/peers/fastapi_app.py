"""FastAPI: a plain function, which runs in its pool of threads, and an UploadFile."""

from typing import Any

from fastapi import FastAPI, UploadFile

from benchmarks.peers.classifier import GRAPH, Classifier, read

app = FastAPI()
classifier = Classifier(GRAPH)


@app.post("/classify")
def classify(file: UploadFile) -> dict[str, Any]:
    return classifier.classify(read(file.file.read())[None])[0]
