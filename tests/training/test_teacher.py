from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from luminanet.errors import CheckpointError, ConfigError
from tests.datasets import write_images
from training.baselines.registry import thaw
from training.batches import ImageSource, scale
from training.checkpoint import load_baseline
from training.config import PRESETS
from training.task import prepare
from training.teacher import answers, load
from training.train import main

SMALL = ["--batch", "16", "--threads", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet-5 that has learned which colour stands for which class."""
    out = tmp_path_factory.mktemp("teacher")
    options = ["--preset", "lenet5", "--data", str(data), "--out", str(out), "--steps", "60"]
    assert main([*options, *SMALL, "--mixup", "0"]) == 0
    return out / "ckpt.pt"


def test_the_targets_are_the_teachers_answers_beside_the_labels(data: Path, teacher: Path) -> None:
    config = replace(PRESETS["cifar10"], batch=16, mixup=0.0, teacher=str(teacher), distill=0.75)
    task = prepare(config, data, None)
    assert isinstance(task.source, ImageSource)
    taught_NL = task.source.taught_NL
    assert taught_NL is not None
    assert torch.allclose(taught_NL.sum(-1), torch.ones(len(taught_NL)), atol=1e-5)
    assert (taught_NL.argmax(-1) == task.source.labels).float().mean() > 0.5
    batch, rows = task.source.batch(0), task.source.rows(0)
    hot = F.one_hot(task.source.labels[rows], 10)
    assert torch.allclose(batch.targets, 0.25 * hot + 0.75 * taught_NL[rows], atol=1e-6)
    mixed = prepare(replace(config, mixup=0.5), data, None).source
    for step in range(4):
        assert torch.allclose(mixed.batch(step).targets.sum(-1), torch.ones(16), atol=1e-5)


def test_the_teacher_is_asked_about_the_images_it_is_shown(data: Path, teacher: Path) -> None:
    source = prepare(replace(PRESETS["cifar10"], batch=16, augment=False), data, None).source
    assert isinstance(source, ImageSource)
    model = load(teacher)
    found = answers(model, source, torch.device("cpu"))
    whole = scale(source.padded[:, :, 4:-4, 4:-4])
    with torch.no_grad():
        expected = thaw(load_baseline(teacher).net).eval()(whole).softmax(-1)
    assert (found - expected).abs().max() < 0.02  # one is in bfloat16


def test_a_run_with_a_teacher_learns_from_it_and_says_so(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "cifar10", "--data", str(data), "--out", str(tmp_path), "--steps", "3"]
    assert main([*options, *SMALL, "--evolution-events", "0", "--teacher", str(teacher)]) == 0
    assert main([*options, *SMALL, "--evolution-events", "0"]) == 2
    assert "other settings (teacher)" in capsys.readouterr().err


def test_a_missing_or_unfit_teacher_is_a_clear_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train it first"):
        load(tmp_path / "ckpt.pt")
    (tmp_path / "ckpt.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "ckpt.pt")
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        replace(PRESETS["cifar10"], distill=1.5)
    with pytest.raises(ConfigError, match="no teacher for text"):
        replace(PRESETS["tinystories"], teacher="ckpt.pt")
