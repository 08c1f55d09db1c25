"""Artifact -> a model repository for NVIDIA's Triton Inference Server.

    python -m export.triton_repository ARTIFACT OUT

    OUT/<name>/config.pbtxt, labels.txt, 1/model.onnx     for Triton's onnxruntime backend
    OUT/<name>-tensorrt/config.pbtxt, .., 1/model.plan    where the artifact has a plan of that
        graph, or of the one that stands for it with TensorRT (GPT-2)

Inputs and outputs are those of the graph. Where all rows of a batch have one shape, Triton joins
requests into batches; a graph with other free dimensions (a prompt's steps) gets the batches of its
clients as they are (gpu/triton_config.py).
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from export.gpu.triton_config import LABELS, TritonOptions, configuration, plan_configuration
from luminanet.artifact.directory import Artifact
from luminanet.artifact.folders import contents, follow, is_unfinished, put
from luminanet.artifact.manifest import MODEL, TENSORRT_MODEL, Role
from luminanet.artifact.tensorrt_plan import PLAN, beside, open_plan, read_plan
from luminanet.errors import ArtifactError, ExportError, finish

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
CONFIG = "config.pbtxt"


def triton_repository(
    directory: Path, out: Path, options: TritonOptions | None = None, model: str = MODEL
) -> tuple[Path, ...]:
    """Writes the models of an artifact into the repository `out`; returns their folders.

    A model that is there already is replaced; a plan of tensorrt_rtx, which Triton cannot run, is
    left out. Raises ArtifactError or ExportError, before anything is written.
    """
    options, artifact = options or TritonOptions(), Artifact.open(directory)
    name, labels = artifact.manifest.name, artifact.manifest.labels
    check(out, name)
    entry = artifact.manifest.graphs.get(model)
    if entry and entry.role is Role.DECODE:
        raise ExportError(f"{model} keeps the state of a text between its calls: choose {MODEL}")
    data = artifact.read(model)
    config = configuration(name, "onnxruntime", _graph(data, directory / model), options, labels)
    lines = "".join(" ".join(label.split()) + "\n" for label in labels)
    extra = {LABELS: lines} if labels else {}
    models = [(name, config, MODEL, data)]
    files = artifact.manifest.files or {}
    source = TENSORRT_MODEL if model == MODEL and TENSORRT_MODEL in files else model
    plan = (directory / source).with_suffix(Path(PLAN).suffix)
    if beside(plan).exists() and (info := open_plan(plan)).module == "tensorrt":
        binary = read_plan(plan, info, files[source].sha256)
        graph = _graph(artifact.read(source), directory / source)
        config = plan_configuration(f"{name}-tensorrt", graph, info, options, labels)
        models.append((f"{name}-tensorrt", config, PLAN, binary))
    for name, *_ in models:
        check(out, name)
    made = [
        _write(out / name, {CONFIG: config, **extra}, file, content)
        for name, config, file, content in models
    ]
    return tuple(made)


def _graph(data: bytes, where: Path) -> onnx.GraphProto:
    try:
        return onnx.load_model_from_string(data).graph
    except Exception as error:  # protobuf's own DecodeError
        raise ArtifactError(f"{where} is not an ONNX file: {error}") from error


def check(out: Path, name: str) -> None:
    """Raises ExportError when no model of this name can be written into the repository, for example
    because a folder that is there would be lost."""
    if not NAME.fullmatch(name):
        raise ExportError(
            f"{name!r} cannot be a folder of Triton: give the checkpoint a plain name"
        )
    folder = out / name
    is_free = not folder.exists() or (
        folder.is_dir() and (not contents(folder) or is_unfinished(folder))
    )
    if not is_free and not (folder / CONFIG).is_file():
        raise ExportError(f"{folder} is no model of a Triton repository: choose another folder")


def _write(folder: Path, texts: Mapping[str, str], model: str, data: bytes) -> Path:
    """One model of the repository, which appears whole."""
    files = {f"1/{model}": data} | {name: text.encode() for name, text in texts.items()}
    repository = follow(folder.parent)
    repository.mkdir(parents=True, exist_ok=True)
    put(folder, files, CONFIG, [_aside(repository)])
    return folder


def _aside(repository: Path) -> Path:
    """Where a model is made, so that a run that is ended leaves nothing where Triton looks: beside
    the repository, or in it where that is another file system or not ours."""
    beside_it = repository.parent
    is_near = beside_it.stat().st_dev == repository.stat().st_dev
    return beside_it if is_near and os.access(beside_it, os.W_OK) else repository


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="triton_repository", description="Write a Triton model repository from an artifact."
    )
    add, default = parser.add_argument, TritonOptions()
    add("artifact", type=Path, help="folder with manifest.json, written by export/freeze.py")
    add("out", type=Path, help="folder of the repository")
    add("--model", default=MODEL, help=f"which graph of the artifact (default {MODEL})")
    add("--max-batch", type=int, default=default.max_batch, help="rows computed together at most")
    arguments = parser.parse_args(argv)

    def work() -> None:
        options = TritonOptions(arguments.max_batch)
        made = triton_repository(arguments.artifact, arguments.out, options, arguments.model)
        for folder in made:
            print(folder)

    return finish(work)


if __name__ == "__main__":
    sys.exit(main())
