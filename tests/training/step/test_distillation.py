from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from luminanet.errors import CheckpointError, ConfigError
from luminanet.tokenizer import Tokenizer
from tests.damage import flip_a_bit
from tests.datasets import write_images, write_stories
from training.baselines.registry import thaw
from training.checkpoint import load as load_checkpoint
from training.checkpoint import load_baseline
from training.data.batches import ImageSource, scale
from training.presets import IMAGE_PRESETS, TEXT_PRESETS
from training.run.task import CPU, build, prepare
from training.step.distillation import answers, load, load_text
from training.step.trainer import Trainer
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
    config = IMAGE_PRESETS["cifar10"].having(
        batch=16, mixup=0.0, teacher=str(teacher), distill=0.75
    )
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
    source = prepare(IMAGE_PRESETS["cifar10"].having(batch=16, augment=False), data, None).source
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


def test_a_damaged_or_diverged_teacher_is_a_clear_error(teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    path.write_bytes(teacher.read_bytes())
    flip_a_bit(path)
    with pytest.raises(CheckpointError, match=r"is damaged .*Bad CRC"):
        load(path)
    raw = torch.load(teacher, weights_only=True)
    name = next(name for name in raw["tensors"] if name.endswith("weight"))
    raw["tensors"][name].view(-1)[0] = float("nan")
    torch.save(raw, path)
    with pytest.raises(CheckpointError, match=f"{name}.*training diverged"):
        load(path)


def test_a_missing_or_unfit_teacher_is_a_clear_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train it first"):
        load(tmp_path / "ckpt.pt")
    (tmp_path / "ckpt.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        load(tmp_path / "ckpt.pt")
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        IMAGE_PRESETS["cifar10"].having(distill=1.5)


# ---------------------------------------------------------------------- text


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories")
    write_stories(folder)
    return folder


def text_run(model: str, stories: Path, out: Path, *more: str) -> int:
    options = ["--preset", model, "--data", str(stories), "--out", str(out), "--steps", "4"]
    small = ["--batch", "2", "--context", "32", "--vocab-size", "300", "--width", "32"]
    return main([*options, *small, "--threads", "1", *more])


def test_a_text_network_learns_what_its_teacher_says(stories: Path, tmp_path: Path) -> None:
    assert text_run("gpt2-teacher", stories, tmp_path / "teacher") == 0
    path = tmp_path / "teacher" / "ckpt.pt"
    assert text_run("gpt2", stories, tmp_path / "student", "--teacher", str(path)) == 0
    config = TEXT_PRESETS["gpt2"].having(
        batch=2, context=32, vocab_size=300, width=32, teacher=str(path), distill=1
    )
    task = prepare(config, stories, None)
    assert task.teacher is not None
    assert task.teacher.config.layers == 2
    trainer = Trainer(build(task, config), config, CPU, teacher=task.teacher)
    batch = task.source.batch(0)
    with torch.no_grad():
        chances = task.teacher.eval()(batch.inputs).flatten(0, 1).softmax(-1)
        expected = F.cross_entropy(trainer.logits(batch), chances)
        assert trainer.loss(batch).item() == pytest.approx(expected.item(), rel=1e-2)


def test_a_text_teacher_that_does_not_fit_is_a_clear_error(stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "teacher"
    assert text_run("gpt2", stories, out) == 0
    words = Tokenizer.train(["another text"], 300)
    with pytest.raises(ConfigError, match="other tokens"):
        load_text(out / "ckpt.pt", words, 32)
    known = Tokenizer.from_json(str(load_checkpoint(out / "ckpt.pt").tokenizer))
    with pytest.raises(ConfigError, match="reads 32 tokens and this run 64"):
        load_text(out / "ckpt.pt", known, 64)
    with pytest.raises(ConfigError, match="preset gpt2-teacher"):
        load_text(tmp_path / "ckpt.pt", known, 32)
