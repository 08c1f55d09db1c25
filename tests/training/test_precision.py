"""What products are computed in: chosen by the hardware, remembered by a run."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import runs
from luminanet.errors import ConfigError, Ended
from luminanet.machine import Cpu
from tests.training.conftest import SMALL
from tests.training.test_train import train
from training import precision
from training.checkpoint import load
from training.data import batches
from training.data.batches import Batch
from training.precision import dtype_of, native
from training.presets import IMAGE_PRESETS
from training.run import run
from training.torch_files import read_torch, write_torch

CPU = torch.device("cpu")


def machine_with(*features: str) -> Any:
    return lambda: Cpu("Some CPU", 2, features)


@pytest.mark.parametrize(
    ("features", "expected"),
    [((), "fp32"), (("AVX2", "AVX512", "VNNI"), "fp32"), (("AVX2", "AVX512", "BF16"), "bf16")],
)
def test_auto_is_bf16_only_where_the_cpu_computes_it(
    features: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu", machine_with(*features))
    assert native(CPU) == expected
    assert (dtype_of(CPU, "auto") is torch.bfloat16) == (expected == "bf16")
    assert dtype_of(CPU, "fp32") is torch.float32
    assert dtype_of(CPU, "bf16") is torch.bfloat16


def test_auto_on_a_gpu_asks_for_bf16_without_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert native(torch.device("cuda")) == "fp32"


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision 'fp8' is none of"):
        replace(SMALL, precision="fp8")


def interrupt(monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """The first time that step 7 is asked for."""
    kind = batches.ImageSource if preset == "cifar10" else batches.TextSource
    plain = kind.batch

    def interrupting(self: Any, step: int) -> Batch:
        if step == 7:
            monkeypatch.setattr(kind, "batch", plain)
            raise Ended(signal.SIGINT)
        return plain(self, step)

    monkeypatch.setattr(kind, "batch", interrupting)


@pytest.mark.parametrize("preset", ["cifar10", "gpt2"])
def test_a_run_resumes_in_the_precision_that_it_began_with(
    preset: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, other, parts = tmp_path / "whole", tmp_path / "other", tmp_path / "parts"
    assert train(preset, data, whole, "--precision", "fp32") == 0
    assert train(preset, data, other, "--precision", "bf16") == 0
    monkeypatch.setattr(run, "native", lambda _: "fp32")
    interrupt(monkeypatch, preset)
    assert train(preset, data, parts) == 130
    monkeypatch.setattr(run, "native", lambda _: "bf16")  # as on another machine
    assert train(preset, data, parts) == 0
    losses = [load(path / "ckpt.pt").figures["held_out_loss"] for path in (whole, parts, other)]
    assert losses[0] == losses[1] != losses[2]


def test_a_run_refuses_to_go_on_in_another_precision(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gpt2", data, tmp_path, "--precision", "fp32") == 0
    assert train("gpt2", data, tmp_path, "--precision", "bf16") == 2
    assert "other settings (precision)" in capsys.readouterr().err


def test_a_run_of_an_older_version_goes_on_in_bf16(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("gpt2", data, tmp_path, "--precision", "bf16") == 0
    state = read_torch(tmp_path / run.STATE)
    del state["config"]["precision"]
    write_torch(tmp_path / run.STATE, state)
    monkeypatch.setattr(run, "native", lambda _: "fp32")
    assert train("gpt2", data, tmp_path) == 0
    assert train("gpt2", data, tmp_path, "--precision", "fp32") == 2


def test_results_of_older_benchmarks_are_still_found(tmp_path: Path) -> None:
    path, config = tmp_path / "one.json", IMAGE_PRESETS["cifar10"]
    runs.store(path, config, {"loss": 1.0})
    assert runs.stored(path, config) == {"loss": 1.0}
    path.write_text(path.read_text().replace('"precision": "auto",', ""), "utf-8")
    assert runs.stored(path, config) == {"loss": 1.0}
    with pytest.raises(ConfigError, match="other settings"):
        runs.stored(path, replace(config, precision="fp32"))
