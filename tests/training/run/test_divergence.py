"""A run whose loss is no number any more ends at once, and loses nothing that was saved."""

import re
from pathlib import Path

import pytest
import torch

from luminanet.errors import DivergedError
from tests.training.test_train import train
from training.config import ImageConfig
from training.data import batches
from training.data.batches import Batch
from training.run.run import STATE, Run
from training.run.task import prepare

SAYS = re.compile(
    r"error: diverged: a loss of (?:inf|nan) after step (\d+); kept is (.*): begin again with a "
    r"lower --learning-rate or a longer --warmup, in another --out"
)


def said(capsys: pytest.CaptureFixture[str]) -> re.Match[str]:
    """The line that a run ends with."""
    (line,) = re.findall("error: .*", capsys.readouterr().err)
    found = SAYS.fullmatch(line)
    assert found, line
    return found


def test_an_absurd_rate_ends_in_one_line_and_the_last_good_state_is_kept(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--optimizer", "eg", "--whiten", "0", "--learning-rate", "0.99", "--warmup", "0"]
    words += ["--evolution-events", "0"]
    assert train("cifar10", data, tmp_path, *words, "--steps", "400") == 2
    step, kept = said(capsys).groups()
    state = torch.load(tmp_path / STATE, weights_only=True)["trainer"]
    assert kept == f"{tmp_path / STATE} of step {state['step']}"
    assert int(step) - 5 <= state["step"] < int(step)
    assert all(weight.isfinite().all() for weight in state["weights"].values())
    assert not (tmp_path / "ckpt.pt").exists()


def test_what_diverges_before_anything_was_saved_says_so(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = batches.ImageSource.batch

    def broken(self: batches.ImageSource, step: int) -> Batch:
        batch = plain(self, step)
        return Batch(batch.inputs * float("nan"), batch.targets) if step == 3 else batch

    monkeypatch.setattr(batches.ImageSource, "batch", broken)
    assert train("cifar10", data, tmp_path) == 2
    assert said(capsys).groups() == ("4", "nothing")
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize("slot", ["weight", "average"])
def test_weights_that_are_no_numbers_are_never_saved(
    slot: str, data: Path, tmp_path: Path, small: ImageConfig
) -> None:
    run = Run(small, prepare(small, data, None), tmp_path, torch.device("cpu"), "")
    run.trainer.train(run.task.source.batch(0))
    run.save()
    saved = (tmp_path / STATE).read_bytes()
    name, weight = next(iter(run.trainer.model.named_parameters()))
    (weight.data if slot == "weight" else run.trainer.average[name]).view(-1)[0] = float("inf")
    with pytest.raises(DivergedError, match=r"weights that are no numbers .* of step 1:"):
        run.save()
    with pytest.raises(DivergedError):
        run.train()
    assert (tmp_path / STATE).read_bytes() == saved
