"""What a machine without a GPU can tell of plans; the rest runs where there is one."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.build_engine import build_for, build_plan
from export.gpu.engine_shapes import PlanOptions
from export.graph.builder import Graph
from luminanet import reference
from luminanet.artifact import tensorrt_plan as plans
from luminanet.artifact.directory import Artifact
from luminanet.artifact.gpu import Gpu, find_gpu
from luminanet.artifact.manifest import MODEL, FileEntry
from luminanet.artifact.tensorrt_plan import MODULES, PlanInfo, Profile, beside, installed_version
from luminanet.errors import ArtifactError, DeviceError, LuminaNetError, MissingExtraError
from serving.runtimes import tensorrt_gpu as module
from serving.runtimes.cuda import Cuda
from serving.runtimes.tensorrt_gpu import PlanRuntime, choose, load_plan
from tests.nets import random_weights, tiny_image_topology, write_tiny_artifacts

PROFILES = (Profile(1, 1, 1), Profile(1, 64, 1024), Profile(1, 8, 32))
on_gpu = pytest.mark.skipif(
    not (find_gpu() and any(map(installed_version, MODULES))), reason="needs a GPU and TensorRT"
)


@pytest.mark.parametrize(("batch", "number"), [(1, 0), (2, 2), (30, 2), (64, 1), (900, 1)])
def test_the_profile_made_for_the_nearest_batch_is_taken(batch: int, number: int) -> None:
    assert choose(PROFILES, batch) == number


def test_a_batch_that_no_profile_takes_is_refused_with_the_option_that_mends_it() -> None:
    with pytest.raises(ArtifactError, match="--profile 1:2000:2000"):
        choose(PROFILES, 2000)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_tiny_artifacts(tmp_path)
    return tmp_path / "luminanet-cifar10" / "artifact"


def write_plan(artifact: Path, **values: Any) -> None:
    """A plan that fits the artifact and holds nonsense."""
    data = b"machine code"
    about: dict[str, Any] = {
        "onnx_sha256": hashlib.sha256((artifact / MODEL).read_bytes()).hexdigest(),
        "module": "tensorrt",
        "version": "11.4.0",
        "capabilities": ("9.0",),
        "profiles": PROFILES,
        "sizes": {},
        "plan": FileEntry(hashlib.sha256(data).hexdigest(), len(data)),
    }
    (artifact / "model.plan").write_bytes(data)
    beside(artifact / "model.plan").write_text(PlanInfo(**(about | values)).to_json())


def fitting_machine(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Pretends the GPU, and returns what would have reached TensorRT."""
    reached: list[bytes] = []
    monkeypatch.setattr(module, "find_gpu", lambda: Gpu("H100", "9.0"))
    monkeypatch.setattr(module, "installed_version", lambda _: "11.4.0")
    monkeypatch.setattr(module, "PlanRuntime", lambda plan, *_: reached.append(plan))
    return reached


def test_a_plan_that_fits_reaches_tensorrt(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = fitting_machine(monkeypatch)
    write_plan(artifact)
    load_plan(Artifact.open(artifact))
    assert reached == [b"machine code"]


@pytest.mark.parametrize(
    "values",
    [
        {"version": "11.4.1"},
        {"capabilities": ("8.0", "8.6")},
        {"onnx_sha256": "0" * 64},
        {"plan": FileEntry("0" * 64, 12)},
        {"model": "other.onnx"},
    ],
)
def test_a_plan_that_does_not_fit_never_reaches_tensorrt(
    values: dict[str, Any], artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = fitting_machine(monkeypatch)
    write_plan(artifact, **values)
    with pytest.raises(ArtifactError):
        load_plan(Artifact.open(artifact))
    assert not reached


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_a_plan_is_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(artifact)
    monkeypatch.setattr(module, "installed_version", lambda _: "11.4.0")
    with pytest.raises(ArtifactError, match="this machine shows none"):
        load_plan(Artifact.open(artifact))


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_without_cuda_its_failure_is_named() -> None:
    with pytest.raises((DeviceError, MissingExtraError), match=r"nvidia-smi|gpu"):
        Cuda()("cudaStreamCreate")


# ---------------------------------------------------------------- where there is a GPU


def gpu_plan(directory: Path, options: PlanOptions) -> PlanRuntime:
    try:
        build_for(directory, options)
    except LuminaNetError as error:
        pytest.skip(f"this TensorRT builds nothing for this GPU: {error}")
    runtime = load_plan(Artifact.open(directory))
    assert isinstance(runtime, PlanRuntime)
    return runtime


@on_gpu
def test_a_plan_agrees_with_the_reference_at_every_batch_and_when_it_runs_again(
    artifact: Path,
) -> None:
    runtime = gpu_plan(artifact, PlanOptions(PROFILES))
    assert [str(tensor) for tensor in runtime.inputs] == ["images float32[?, 3, 32, 32]"]
    net, rng = random_weights(tiny_image_topology()), np.random.default_rng(0)
    for batch in (1, 5, 64):
        images = np.empty((batch, 3, 32, 32), np.float32)
        logits = np.empty((batch, 10), np.float32)
        step = runtime.bind({"images": images}, {"logits": logits})
        for _ in range(3):  # plainly, then through the recorded graph
            images[:] = rng.random(images.shape, dtype=np.float32)
            step()
            expected = reference.forward(net, images)
            assert np.abs(logits - expected).max() < 1e-2 * max(1, np.abs(expected).max())


@on_gpu
def test_an_array_can_be_input_and_output(tmp_path: Path) -> None:
    graph = Graph("counter")
    one = graph.constant("one", np.ones(1, np.float32))
    graph.node("Add", [graph.input("x", np.float32, ["batch", 4]), one], "y")
    graph.output("y", np.float32, ["batch", 4])
    out = tmp_path / "model.plan"
    try:
        info = build_plan(graph.build().SerializeToString(), out, PlanOptions((Profile(1, 2, 4),)))
    except LuminaNetError as error:
        pytest.skip(f"this TensorRT builds nothing for this GPU: {error}")
    data = plans.read_plan(out, info, info.onnx_sha256)
    numbers = np.zeros((2, 4), np.float32)
    step = PlanRuntime(data, info, str(out)).bind({"x": numbers}, {"y": numbers})
    for _ in range(3):
        step()
    assert np.array_equal(numbers, np.full((2, 4), 3, np.float32))
