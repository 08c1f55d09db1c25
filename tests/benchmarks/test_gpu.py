from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import run as module
from benchmarks.gpu.run import CPU, lines, main, measure
from luminanet.artifact.directory import Artifact
from luminanet.artifact.gpu import find_gpu
from luminanet.artifact.manifest import MODEL
from luminanet.errors import DeviceError, MissingExtraError
from luminanet.interface import Arrays
from serving.runtimes.backend import Step
from serving.runtimes.onnxruntime_cpu import OrtCpu
from tests.nets import write_tiny_artifacts


class Off(OrtCpu):
    """A runtime whose logits are wrong by a constant in the first class."""

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        step = super().bind(inputs, outputs)

        def wrong() -> None:
            step()
            outputs["logits"][:, 0] += 100

        return wrong


def test_a_wrong_runtime_shows_in_the_figures_and_a_right_one_does_not(tmp_path: Path) -> None:
    write_tiny_artifacts(tmp_path)
    graph = Artifact.open(tmp_path / "luminanet-cifar10" / "artifact").read(MODEL)
    kinds = {CPU: OrtCpu, "again": OrtCpu, "off": Off}
    backends = {name: kind(graph, 1, name) for name, kind in kinds.items()}
    images = np.random.default_rng(0).random((7, 3, 32, 32), dtype=np.float32)
    rows = {row.runtime: row for row in measure(backends, {"images": images}, 10, seconds=0)}
    assert (rows["again"].difference, rows["again"].agreement) == (0, 1)
    assert rows["off"].difference > 10
    assert rows["off"].agreement < 1
    assert all(row.batch == 7 and row.ms > 0 for row in rows.values())
    cells = lines("tiny", list(rows.values()))
    assert cells[0][4] == "1.0x"
    assert all(len(line) == len(module.HEADER) for line in cells)


class Full(OrtCpu):
    """A GPU whose memory takes two rows and no more."""

    def __init__(self, graph: bytes, where: str) -> None:
        super().__init__(graph, 1, where)

    def bind(self, inputs: Arrays, outputs: Arrays) -> Step:
        if len(outputs["logits"]) > 2:
            raise DeviceError("cudaErrorMemoryAllocation")
        return super().bind(inputs, outputs)


def test_a_batch_that_the_gpu_cannot_take_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_artifacts(tmp_path)
    artifact = Artifact.open(tmp_path / "luminanet-cifar10" / "artifact")
    monkeypatch.setattr(module, "BATCHES", (1, 8, 2))
    monkeypatch.setattr(module, "OrtCuda", Full)
    monkeypatch.setattr(module, "_plan", Full)
    found = list(module.compare(artifact, threads=1, seconds=0))
    assert [[row.batch for row in rows] for rows in found] == [[1] * 3, [2] * 3]
    error = capsys.readouterr().err
    assert error == "luminanet-cifar10 without batch 8: cudaErrorMemoryAllocation\n"


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_without_cuda_its_provider_is_refused_in_one_line(tmp_path: Path) -> None:
    write_tiny_artifacts(tmp_path)
    graph = Artifact.open(tmp_path / "luminanet-cifar10" / "artifact").read(MODEL)
    with pytest.raises((DeviceError, MissingExtraError)) as caught:
        module.OrtCuda(graph, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_measured_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "HERE", tmp_path)
    assert main(["pretrained"]) == 2
    assert "shows no GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
