"""`python -m benchmarks.gpu.run pretrained`: CPU, CUDA provider and TensorRT plan.

For every artifact whose graph has no free dimension but the batch (images, windows of text): the
same seeded inputs through onnxruntime on the CPU, onnxruntime's CUDA provider, and a plan built
here. Times are medians of whole calls, arrays in main memory to logits in main memory, taken in
turn. Differences are those to the CPU's logits, relative to the largest logit. Writes
benchmarks/gpu/<name of the GPU>.md; refuses, and writes nothing, where there is no GPU.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import provenance, table
from export.build_engine import build_plan
from export.gpu.engine_shapes import PlanOptions
from luminanet.artifact.directory import Artifact
from luminanet.artifact.gpu import find_gpu
from luminanet.artifact.manifest import MODEL, Family, Task
from luminanet.artifact.tensorrt_plan import PLAN, read_plan
from luminanet.errors import ConfigError, DeviceError, LuminaNetError, MissingExtraError
from luminanet.interface import IMAGE_SHAPE, IMAGES, LOGITS, TOKENS, Arrays, Tensor
from luminanet.untrusted import line
from serving.models.load import find
from serving.runtimes.backend import Backend, Step
from serving.runtimes.onnxruntime_cpu import OrtCpu
from serving.runtimes.tensorrt_gpu import PlanRuntime

BATCHES = (1, 64, 1024)
SECONDS = 2.0
HEADER = ("network", "runtime", "batch", "ms", "faster than CPU", "difference", "same top-1")
HERE = Path(__file__).parent
CPU = "CPU"


@dataclass(frozen=True, slots=True)
class Row:
    """One runtime at one batch size."""

    runtime: str
    batch: int
    ms: float
    difference: float
    """Largest |logit - CPU's logit| over max(1, largest |CPU's logit|)."""
    agreement: float
    """Share of rows whose best class or token is the CPU's."""


class OrtCuda:
    """onnxruntime's CUDA provider. It must not fall back to the CPU in silence."""

    name = "ort_cuda"

    def __init__(self, graph: bytes, where: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = ["CUDAExecutionProvider"]
        try:
            self._session = ort.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # onnxruntime has a class per status code, without a base
            raise DeviceError(f"{where}: {line(error)}") from error
        if self._session.get_providers()[0] != providers[0]:
            raise MissingExtraError("onnxruntime-gpu (with its CUDA libraries)", "gpu")
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        names = list(outputs)

        def step() -> None:
            try:
                results = self._session.run(names, dict(inputs))
            except Exception as error:
                raise DeviceError(
                    f"the CUDA provider fails: {line(error)}: see with nvidia-smi that no other "
                    "process takes the GPU's memory"
                ) from error
            for name, found in zip(names, results, strict=True):
                outputs[name][...] = found

        return step


def measure(
    backends: Mapping[str, Backend], inputs: Arrays, width: int, seconds: float = SECONDS
) -> list[Row]:
    """All runtimes on one batch; the first is what the others are compared with.

    `inputs` holds one array [batch, ..]; `width` is that of the logits.
    """
    batch = len(next(iter(inputs.values())))
    logits = {name: np.zeros((batch, width), np.float32) for name in backends}
    steps = {n: backend.bind(inputs, {LOGITS: logits[n]}) for n, backend in backends.items()}
    for step in steps.values():
        step()
        step()  # the second call of a plan replays its graph for the first time
    times: dict[str, list[float]] = {name: [] for name in steps}
    begun_s = time.perf_counter()
    while time.perf_counter() - begun_s < seconds or len(times[next(iter(steps))]) < 5:
        for name, step in steps.items():
            at_s = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - at_s)
    truth = logits[next(iter(logits))]
    scale = max(1.0, float(np.abs(truth).max()))
    return [
        Row(
            runtime=name,
            batch=batch,
            ms=1000 * statistics.median(times[name]),
            difference=float(np.abs(found - truth).max()) / scale,
            agreement=float((found.argmax(1) == truth.argmax(1)).mean()),
        )
        for name, found in logits.items()
    ]


def compare(artifact: Artifact, threads: int, seconds: float) -> Iterator[list[Row]]:
    """One list of rows for each batch size. Runtimes that cannot be had are told on stderr, and so
    are batches that the GPU cannot take."""
    manifest, graph = artifact.manifest, artifact.read(MODEL)
    where = str(artifact.directory)
    backends: dict[str, Backend] = {CPU: OrtCpu(graph, threads, where)}
    for name, make in (("CUDA provider", OrtCuda), ("TensorRT plan", _plan)):
        try:
            backends[name] = make(graph, where)
        except LuminaNetError as error:
            print(f"{manifest.name} without {name}: {error}", file=sys.stderr)
    rng = np.random.default_rng(0)
    width = manifest.vocab_size or len(manifest.labels)
    for batch in BATCHES:
        try:
            yield measure(backends, _inputs(artifact, batch, rng), width, seconds)
        except DeviceError as error:
            print(f"{manifest.name} without batch {batch}: {error}", file=sys.stderr)


def _plan(graph: bytes, where: str) -> PlanRuntime:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / PLAN
        info = build_plan(graph, out, PlanOptions(), progress=lambda text: print(f"  {text}"))
        data = read_plan(out, info, info.onnx_sha256)
    return PlanRuntime(data, info, where)


def _inputs(artifact: Artifact, batch: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    manifest = artifact.manifest
    if manifest.task is Task.CLASSIFICATION:
        return {IMAGES: rng.random((batch, *IMAGE_SHAPE), dtype=np.float32)}
    return {TOKENS: rng.integers(0, manifest.vocab_size, (batch, manifest.context))}


def lines(name: str, rows: Sequence[Row]) -> list[list[str]]:
    """Rows of one batch size as cells of the table."""
    cpu_ms = rows[0].ms
    return [
        [
            name,
            row.runtime,
            str(row.batch),
            f"{row.ms:.3f}",
            f"{cpu_ms / row.ms:.1f}x",
            f"{row.difference:.1e}",
            f"{row.agreement:.2%}",
        ]
        for row in rows
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.run", description=__doc__)
    parser.add_argument("artifacts", type=Path, help="folder with artifacts, such as pretrained")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: all)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each batch size")
    arguments = parser.parse_args(argv)
    try:
        print(f"written to {_run(arguments.artifacts, arguments.threads, arguments.seconds)}")
    except (LuminaNetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(root: Path, threads: int, seconds: float) -> Path:
    gpu = find_gpu()
    if gpu is None:
        raise ConfigError("this machine shows no GPU: run this on one that has, nothing is written")
    cells = []
    for artifact in map(Artifact.open, find(root)):
        if artifact.manifest.family is Family.LUMINANET:  # GPT-2 keeps a cache: another question
            for rows in compare(artifact, threads, seconds):
                cells += lines(artifact.manifest.name, rows)
    report = table(HEADER, cells)
    print(report)
    page = HERE / f"{re.sub('[^a-z0-9]+', '-', gpu.name.lower()).strip('-')}.md"
    source = provenance("python -m benchmarks.gpu.run pretrained", _packages(), "0")
    page.write_text(
        f"# {gpu.name}, compute capability {gpu.capability}\n\n{report}\n{source}", "utf-8"
    )
    return page


def _packages() -> list[str]:
    """Those of the runtimes that are installed."""
    found = []
    for package in ("onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "numpy"):
        try:
            version(package)
        except PackageNotFoundError:
            continue
        found.append(package)
    return found


if __name__ == "__main__":
    sys.exit(main())
