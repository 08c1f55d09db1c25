import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from luminanet.errors import ConfigError, Ended
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from tests.damage import flip_a_bit
from training.checkpoint import load
from training.data import batches
from training.data.batches import Batch
from training.presets import IMAGE_PRESETS, PRESETS, TEXT_PRESETS
from training.run.task import build, prepare
from training.step.trainer import MIN_RATE, Trainer
from training.train import command_of, main

TEXT = ["--steps", "12", "--batch", "4", "--context", "16", "--vocab-size", "300"]
SMALL = {
    "cifar10": [
        *("--steps", "12", "--batch", "16", "--width", "8", "--channel", "4"),
        *("--evolution-events", "4"),
    ],
    "tinystories": [*TEXT, "--width", "16", "--channel", "8", "--evolution-events", "3"],
    "gpt2": [*TEXT, "--width", "32"],
}


def train(preset: str, data: Path, out: Path, *more: str) -> int:
    return main([*words(preset, data, out), *more])


def words(preset: str, data: Path, out: Path) -> list[str]:
    options = ["--preset", preset, "--data", str(data), "--out", str(out)]
    return [*options, "--threads", "1", "--check-every", "5", *SMALL[preset]]


@pytest.mark.parametrize(
    ("preset", "change", "says"),
    [
        ("tinystories-echo", {"shared_gates": False}, "shared gates"),
        ("tinystories-echo", {"habit_dropout": 1.5}, "between 0 and 1"),
        ("gpt2", {"habit_dropout": 0.1}, "gpt2 has no habit-dropout: .* is for a text LuminaNet$"),
        ("gpt2", {"final_rate": 1.5}, "between 0 and 1"),
        ("gpt2", {"warmup": 1.0}, "between 0 and 1"),
        ("gpt2", {"beta2": 1.0}, "between 0 and 1"),
        ("gpt2", {"head_width": 0}, "1 at least"),
        ("gpt2", {"deviation": -0.1}, "not negative"),
        ("tinystories", {"head_width": 64}, "tinystories has no head-width: .* is for a gpt2$"),
        ("tinystories", {"smoothing": 0.1}, "tinystories has no smoothing: .* is for images$"),
        ("cifar10", {"deviation": 0.04}, "cifar10 has no deviation: .* is for a gpt2$"),
        ("cifar10", {"context": 64}, "cifar10 has no context: .* is for text$"),
        ("lenet5", {"channel": 8}, "is for an image LuminaNet or a text LuminaNet$"),
        ("cifar10", {"seeding": "lags"}, "none of .*'fine', 'overproduced', 'paper'"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    preset: str, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        PRESETS[preset].having(**change)


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_resumes_and_ends_with_the_same_bits(
    preset: str,
    number: signal.Signals,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(preset, data, tmp_path / "whole") == 0

    kind = batches.ImageSource if preset == "cifar10" else batches.TextSource
    plain = kind.batch

    def interrupting(self: batches.Source, step: int) -> Batch:
        if step == 7:
            signal.raise_signal(number)
        return plain(self, step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(kind, "batch", interrupting)
        assert train(preset, data, tmp_path / "parts") == 128 + number
    assert not (tmp_path / "parts" / "ckpt.pt").exists()
    assert train(preset, data, tmp_path / "parts") == 0
    assert "resuming" in capsys.readouterr().err

    raw = [torch.load(tmp_path / run / "state.pt") for run in ("whole", "parts")]
    for slot in ("weights", "average", "first_moment", "second_moment"):
        for name, value in raw[0]["trainer"][slot].items():
            assert torch.equal(value, raw[1]["trainer"][slot][name]), (slot, name)
    one, two = (load(tmp_path / run / "ckpt.pt") for run in ("whole", "parts"))
    assert one.figures["held_out_loss"] == two.figures["held_out_loss"]
    if isinstance(one.net, FrozenNet) and isinstance(two.net, FrozenNet):
        assert one.net.topology == two.net.topology


def test_a_run_that_is_killed_goes_on_from_its_last_save(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("cifar10", data, tmp_path / "whole") == 0

    plain = batches.ImageSource.batch

    def dying(self: batches.ImageSource, step: int) -> Batch:
        if step == 8:
            raise Ended(signal.SIGINT)  # nothing is saved on this way out
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(batches.ImageSource, "batch", dying)
        assert train("cifar10", data, tmp_path / "parts") == 128 + signal.SIGINT
    assert train("cifar10", data, tmp_path / "parts") == 0
    one, two = (load(tmp_path / run / "ckpt.pt") for run in ("whole", "parts"))
    assert one.figures["held_out_loss"] == two.figures["held_out_loss"]


class Clock:
    """Stands for the module `time` of the loop: every step takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def test_a_time_limit_ends_the_run_wherever_it_was_interrupted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.run.run.time", Clock())
    limit = ["--steps", "1000000", "--seconds", "12"]
    assert train("cifar10", data, tmp_path / "whole", *limit) == 0
    plain = batches.ImageSource.batch

    def interrupting(self: batches.ImageSource, step: int) -> Batch:
        if step == 7:
            signal.raise_signal(signal.SIGINT)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(batches.ImageSource, "batch", interrupting)
        assert train("cifar10", data, tmp_path / "parts", *limit) == 128 + signal.SIGINT
    assert train("cifar10", data, tmp_path / "parts", *limit) == 0
    one, two = (load(tmp_path / run / "ckpt.pt") for run in ("whole", "parts"))
    assert one.figures == two.figures
    assert one.figures["steps"] == one.figures["training_seconds"] == 12
    assert one.figures["still_improving"] in (0, 1)
    lines = (tmp_path / "whole" / "evolution.jsonl").read_text().splitlines()
    steps = sorted({json.loads(line)["step"] for line in lines})
    assert len(steps) > 2
    assert 1 <= steps[0] < steps[-1] <= 6  # 0.02 to 0.4 of the time


def test_progress_is_the_further_of_steps_and_time() -> None:
    config = IMAGE_PRESETS["cifar10"].having(steps=100, seconds=50.0)
    assert config.done(step=10, elapsed_s=0) == 0.1
    assert config.done(step=10, elapsed_s=25) == 0.5
    assert replace(config, seconds=0.0).done(step=10, elapsed_s=25) == 0.1


KILLED_IN_A_MUTATION = """
import os, signal, sys
from training.evolution import evolve
from training.train import main

plain = evolve.adopt

def dying(trainer, slots):
    plain(trainer, slots)
    if trainer.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

evolve.adopt = dying
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_that_is_killed_in_a_mutation_ends_with_the_same_bits(
    data: Path, tmp_path: Path
) -> None:
    longer = ["--steps", "60"]  # an event after the first save
    assert train("cifar10", data, tmp_path / "whole", *longer) == 0
    command = [*words("cifar10", data, tmp_path / "parts"), *longer]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_A_MUTATION, *command], capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "parts" / "state.pt").exists()
    assert not (tmp_path / "parts" / "ckpt.pt").exists()
    assert train("cifar10", data, tmp_path / "parts", *longer) == 0
    raw = [torch.load(tmp_path / run / "state.pt") for run in ("whole", "parts")]
    for name, value in raw[0]["trainer"]["weights"].items():
        assert torch.equal(value, raw[1]["trainer"]["weights"][name]), name


NEWER = ("final_rate", "head_width", "deviation")
"""Options that runs of earlier versions did not have."""


@pytest.mark.parametrize("preset", SMALL)
def test_a_run_of_a_version_with_fewer_options_resumes_and_ends_with_the_same_bits(
    preset: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = ("--deviation", "0.02") if preset == "gpt2" else ()
    assert train(preset, data, tmp_path / "whole", *then) == 0
    kind = batches.ImageSource if preset == "cifar10" else batches.TextSource
    plain = kind.batch

    def interrupting(self: batches.Source, step: int) -> Batch:
        if step == 7:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(kind, "batch", interrupting)
        assert train(preset, data, tmp_path / "parts", *then) == 128 + signal.SIGTERM
    path = tmp_path / "parts" / "state.pt"
    state = torch.load(path)
    for name in NEWER:
        del state["config"][name]
    if state["config"]["evolution"]:
        del state["config"]["evolution"]["max_latency_us"]
    torch.save(state, path)
    assert train(preset, data, tmp_path / "parts", *then) == 0
    raw = [torch.load(tmp_path / run / "state.pt") for run in ("whole", "parts")]
    for name, value in raw[0]["trainer"]["weights"].items():
        assert torch.equal(value, raw[1]["trainer"]["weights"][name]), name


def test_an_option_that_an_earlier_version_did_not_have_has_to_be_at_its_default(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gpt2", data, tmp_path) == 0
    state = torch.load(tmp_path / "state.pt")
    del state["config"]["final_rate"]
    torch.save(state, tmp_path / "state.pt")
    assert train("gpt2", data, tmp_path, "--final-rate", "0.1") == 2
    assert "other settings (final_rate)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("warmup", "final", "expected"),
    [
        (0.1, 0.0, [0, 0.5, 1, 0.5, MIN_RATE]),
        (0.1, 0.1, [0, 0.5, 1, 0.55, 0.1]),
        (0.0, 1.0, [1, 1, 1, 1, 1]),
    ],
)
def test_the_learning_rate_rises_and_falls_to_its_final_share(
    trainer: Trainer, warmup: float, final: float, expected: list[float]
) -> None:
    trainer.config = replace(
        trainer.config, steps=100, learning_rate=1e-3, warmup=warmup, final_rate=final
    )
    found = []
    for step in (0, 5, 10, 55, 100):
        trainer.step = step
        found.append(trainer.learning_rate() / 1e-3)
    assert found == pytest.approx(expected)


def test_heads_of_a_gpt2_are_as_wide_as_asked_for(data: Path, tmp_path: Path) -> None:
    assert train("gpt2", data, tmp_path, "--head-width", "16", "--deviation", "0.04") == 0
    net = load(tmp_path / "ckpt.pt").net
    assert isinstance(net, Gpt2Net)
    assert net.config.heads == 2
    assert net.tensors["wpe.weight"].std() == pytest.approx(0.04, rel=0.1)


def test_first_weights_of_a_gpt2_fit_its_width_if_asked_to(data: Path) -> None:
    fitting = TEXT_PRESETS["gpt2"].having(vocab_size=300, context=16, deviation=0.0)
    task = prepare(fitting, data, None)
    for width, spread in ((768, 0.02), (192, 0.04), (48, 0.08)):
        sizes = Gpt2Config(300, 16, width, heads=1)
        net = build(replace(task, first_net=sizes), fitting).freeze()
        assert isinstance(net, Gpt2Net)
        assert net.tensors["wte.weight"].std() == pytest.approx(spread, rel=0.03)


def test_training_learns_and_leaves_a_record(data: Path, tmp_path: Path) -> None:
    assert train("cifar10", data, tmp_path, "--steps", "100", "--learning-rate", "0.01") == 0
    checkpoint = load(tmp_path / "ckpt.pt")
    assert checkpoint.figures["held_out_accuracy"] > 0.5
    assert checkpoint.labels[3] == "cat"
    assert list((tmp_path / "tensorboard").iterdir())
    events = [json.loads(line) for line in (tmp_path / "evolution.jsonl").read_text().splitlines()]
    assert {"grow", "split", "connect"} <= {event["operator"] for event in events}
    assert isinstance(checkpoint.net, FrozenNet)
    assert len(checkpoint.net.topology.clusters) > 16


def test_both_text_models_share_the_tokenizer(data: Path, tmp_path: Path) -> None:
    assert train("tinystories", data, tmp_path / "a") == 0
    assert train("gpt2", data, tmp_path / "b") == 0
    ours, theirs = load(tmp_path / "a" / "ckpt.pt"), load(tmp_path / "b" / "ckpt.pt")
    assert isinstance(theirs.net, Gpt2Net)
    assert ours.tokenizer == theirs.tokenizer
    assert ours.tokenizer is not None
    (tmp_path / "tokenizer.json").write_text(ours.tokenizer)
    again = ["--tokenizer", str(tmp_path / "tokenizer.json")]
    assert train("gpt2", data, tmp_path / "c", *again) == 0
    assert load(tmp_path / "c" / "ckpt.pt").tokenizer == ours.tokenizer


def test_a_folder_with_another_run_is_not_overwritten(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gpt2", data, tmp_path) == 0
    assert train("gpt2", data, tmp_path, "--steps", "20") == 2
    assert "other settings (steps)" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="one of them is only bad without a GPU")
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--steps", "0"], "at least 1"),
        (["--learning-rate", "7"], "learning rate"),
        (["--evolution-events", "-1"], "negative"),
        (["--data", "nowhere"], "check --data"),
        (["--batch", "500"], "lower --batch"),
        (["--device", "cuda"], "no GPU"),
    ],
)
def test_bad_options_are_clear_errors(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert train("cifar10", data, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert "Traceback" not in error


def test_a_tokenizer_that_is_not_there_is_a_clear_error(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gpt2", data, tmp_path, "--tokenizer", str(tmp_path / "none.json")) == 2
    assert "check --tokenizer" in capsys.readouterr().err


def test_an_interrupt_before_the_first_step_is_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("training.train.prepare", interrupted)
    assert train("gpt2", data, tmp_path / "run") == 128 + signal.SIGINT
    assert capsys.readouterr().err == "ended by SIGINT: nothing half is left\n"


def test_columns_of_other_names_are_named_by_options(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cifar10", "tinystories"):
        table = pq.read_table(data / name / "train.parquet")
        table = table.rename_columns([f"my {column}" for column in table.column_names])
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "train.parquet")
    images = ["--image-column", "my img", "--label-column=my label"]
    assert train("cifar10", tmp_path, tmp_path / "images") == 2
    assert "(my img, my label) with --image-column" in capsys.readouterr().err
    assert train("cifar10", tmp_path, tmp_path / "images", *images) == 0
    assert train("gpt2", tmp_path, tmp_path / "text", "--text-column", "my text") == 0
    assert train("cifar10", data, tmp_path / "plain") == 0
    ours, plain = (load(tmp_path / run / "ckpt.pt") for run in ("images", "plain"))
    assert ours.figures["held_out_loss"] == plain.figures["held_out_loss"]
    assert ours.command == plain.command
    assert train("cifar10", data, tmp_path / "images") == 0  # resumed: the same data


def test_the_classes_of_the_data_are_those_of_the_checkpoint(data: Path, tmp_path: Path) -> None:
    names = [f"digit {number}" for number in range(10)]
    told = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pq.read_table(data / "cifar10" / "train.parquet")
    table = table.replace_schema_metadata({b"huggingface": json.dumps(told).encode()})
    pq.write_table(table, tmp_path / "train.parquet")
    assert train("cifar10", tmp_path, tmp_path / "run") == 0
    assert load(tmp_path / "run" / "ckpt.pt").labels == tuple(names)


@pytest.mark.parametrize("damage", ["a flipped bit", "cut", "another body", "no settings"])
def test_a_damaged_state_is_never_resumed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    assert train("gpt2", data, tmp_path) == 0
    path = tmp_path / "state.pt"
    content, raw = path.read_bytes(), torch.load(path, weights_only=True)
    match damage:
        case "a flipped bit":
            flip_a_bit(path)
        case "cut":
            path.write_bytes(content[:-300])
        case "another body":
            torch.save(raw | {"trainer": {"step": 12, "weights": [1]}}, path)
        case "no settings":
            torch.save({"a": 1}, path)
    capsys.readouterr()
    assert train("gpt2", data, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} is ")
    assert ("choose another --out" if damage == "no settings" else "damaged") in error
    assert error.count("\n") == 1


def test_a_state_of_other_options_names_those_that_are_not_there_any_more(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gpt2", data, tmp_path) == 0
    raw = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(raw | {"config": raw["config"] | {"gone": 1}}, tmp_path / "state.pt")
    assert train("gpt2", data, tmp_path) == 2
    assert "other settings (gone)" in capsys.readouterr().err


def test_pictures_of_one_colour_train_to_a_number(tmp_path: Path) -> None:
    """A channel that is the same everywhere has no deviation to divide by."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    cells = {"img": [{"bytes": buffer.getvalue(), "path": None}] * 60, "label": [1, 2] * 30}
    pq.write_table(pyarrow.table(cells), tmp_path / "train.parquet")
    assert train("cifar10", tmp_path, tmp_path / "run") == 0
    assert load(tmp_path / "run" / "ckpt.pt").figures["held_out_loss"] < 10


def test_the_recorded_command_names_no_folder_of_this_machine() -> None:
    words = ["--preset", "gpt2", "--data", "/x", "--out=/y", "--threads", "2", "--steps", "9"]
    words += ["--text-column", "story"]
    assert command_of(words) == "python -m training.train --preset gpt2 --steps 9"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside the compiler
def test_a_compiled_run_learns_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = list[int]()
    plain = torch.compile

    def counting(model: torch.nn.Module) -> object:
        compiled.append(1)
        return plain(model, backend="eager")  # traces and guards; generates no code, which is slow

    monkeypatch.setattr(torch, "compile", counting)
    assert train("cifar10", data, tmp_path / "plain") == 0
    assert compiled == []
    assert train("cifar10", data, tmp_path / "compiled", "--compile") == 0
    assert compiled == [1]  # once, after the last event
    one, two = (load(tmp_path / run / "ckpt.pt") for run in ("plain", "compiled"))
    assert isinstance(one.net, FrozenNet)
    assert isinstance(two.net, FrozenNet)
    assert one.net.topology == two.net.topology
    assert one.figures["held_out_loss"] == pytest.approx(two.figures["held_out_loss"], rel=0.01)
