"""What is stored of a run: one flat form, that of all versions."""

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luminanet.errors import ConfigError
from tests.training.test_train import train
from training.checkpoint import load
from training.data import batches
from training.evolution.evolve import PRICE
from training.presets import IMAGE_PRESETS, PRESETS, TEXT_PRESETS
from training.run import run
from training.step.trainer import EMA, GATE_RATE
from training.stored import FIXED, FIXED_EVOLUTION, STORED, STORED_EVOLUTION, completed
from training.torch_files import read_torch

LENET5 = """{"preset": "lenet5", "data_set": "cifar10", "model": "lenet5", "steps": 20000,
"batch": 512, "learning_rate": 0.002, "seed": 0, "optimizer": "adamw", "weight_decay": 0.05,
"beta2": 0.99, "warmup": 0.05, "final_rate": 0.0, "ema": 0.998, "gate_rate": 5.0, "clip": 0.0,
"dropout": 0.0, "habit_dropout": 0.0, "mixup": 0.5, "smoothing": 0.1, "teacher": "",
"distill": 0.6, "whiten": 0.0, "augment": true, "context": 256, "vocab_size": 4096, "width": 0,
"layers": 1, "head_width": 32, "deviation": 0.02, "channel": 0, "seeding": "",
"shared_gates": false, "evolution": null, "held_out": 0.04, "check_every": 250, "compile": false,
"precision": "auto", "seconds": 0.0, "split_seed": null}"""
EVOLUTION = """{"policy": "gradient", "start": 0.02, "stop": 0.3, "events": 8, "building": 24,
"max_parameters": 1400000, "max_macs": 0, "max_clusters": 0, "max_connections": 0,
"max_level": 1, "max_width": 192, "neurons": 32, "connections": 5,
"kinds": ["feedforward", "feedback", "recurrent"], "grown": 3, "pruned": 0.05, "price": 0.05,
"cost": "macs", "max_latency_us": 0.0, "fields": 0, "buses": false,
"selected": 0}"""


def test_what_is_stored_is_what_earlier_versions_stored() -> None:
    as_before = IMAGE_PRESETS["lenet5"].having(held_out=0.04, split_seed=None)
    assert json.dumps(as_before.to_dict()) == LENET5.replace("\n", " ")
    stored = TEXT_PRESETS["tinystories"].to_dict()
    assert json.dumps(stored["evolution"]) == EVOLUTION.replace("\n", " ")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_stores_all_of_its_settings(preset: str) -> None:
    config = PRESETS[preset]
    stored = config.to_dict()
    assert list(stored) == list(STORED)
    own: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    model = own.pop("model")
    evolution = model.pop("evolution", None) or {}
    assert stored["model"] == model.pop("name", config.model.name)
    assert own.items() <= stored.items()
    assert model.items() <= stored.items()
    assert evolution.items() <= (stored["evolution"] or STORED_EVOLUTION).items()
    assert config.differing(stored) == []


def test_constants_are_stored_as_they_are() -> None:
    assert [STORED[name] for name in FIXED] == [EMA, GATE_RATE]
    assert [STORED_EVOLUTION[name] for name in FIXED_EVOLUTION] == [PRICE, 0.0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ema": 0.9}, r"ema 0\.9, and in this version that is always 0\.998"),
        ({"evolution": {"max_latency_us": 80.0}}, r"max_latency_us 80\.0"),
    ],
)
def test_another_value_of_a_constant_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        completed(IMAGE_PRESETS["cifar10"].to_dict() | change)


def test_a_setting_that_the_model_does_not_have_cannot_differ() -> None:
    config = TEXT_PRESETS["gpt2"]
    stored = config.to_dict()
    assert config.differing(stored | {"channel": 7, "mixup": 0.5}) == []
    assert config.differing(stored | {"model": "luminanet"}) == ["model"]
    assert config.differing(stored | {"layers": 2, "gone": 1}) == ["gone", "layers"]
    assert replace(config, seed=1).differing(stored) == ["seed"]


def test_settings_of_the_run_and_of_its_model_are_changed_by_their_names() -> None:
    changed = TEXT_PRESETS["gpt2"].having(seed=3, context=64, layers=2)
    assert (changed.seed, changed.context, changed.model.name) == (3, 64, "gpt2")
    assert changed.to_dict()["layers"] == 2
    with pytest.raises(ConfigError, match=r"^gpt2 has no whiten: .* is for an image LuminaNet$"):
        TEXT_PRESETS["gpt2"].having(seed=3, whiten=0.1)


@pytest.mark.parametrize(
    ("preset", "words", "says"),
    [
        ("gpt2", ["--channel", "8"], "for an image LuminaNet or a text LuminaNet"),
        ("gpt2", ["--no-augment"], "gpt2 has no augment: --augment is for images"),
        ("gpt2", ["--policy", "random"], "gpt2 does not evolve"),
        ("cifar10", ["--layers", "2"], "cifar10 has no layers: --layers is for a gpt2"),
    ],
)
def test_an_option_of_another_model_is_refused_in_one_line(
    preset: str,
    words: list[str],
    says: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(preset, data, tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_run_with_another_value_of_a_constant_does_not_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gpt2", data, tmp_path) == 0
    state = torch.load(tmp_path / run.STATE)
    state["config"]["gate_rate"] = 1.0
    torch.save(state, tmp_path / run.STATE)
    assert train("gpt2", data, tmp_path) == 2
    (line,) = [t for t in capsys.readouterr().err.splitlines() if t.startswith("error: ")]
    assert f"{tmp_path / run.STATE} cannot go on: it is of a run with gate_rate 1.0" in line


def test_a_run_that_goes_on_is_read_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("gpt2", data, tmp_path) == 0
    read = list[Path]()

    def reading(path: Path) -> dict[str, Any]:
        read.append(path)
        return read_torch(path)

    monkeypatch.setattr(run, "read_torch", reading)
    assert train("gpt2", data, tmp_path) == 0
    assert read == [tmp_path / run.STATE]


def test_an_interrupted_run_of_an_earlier_version_keeps_the_images_that_it_held_out(
    data: Path, tmp_path: Path
) -> None:
    """Its state knows no `split_seed`: its seed drew which 4 % of the images are held out."""
    seed, out = ("--seed", "3"), tmp_path / "parts"
    plain = batches.ImageSource.batch

    def interrupting(self: batches.ImageSource, step: int) -> batches.Batch:
        if step == 7:
            signal.raise_signal(signal.SIGINT)
        return plain(self, step)

    with pytest.MonkeyPatch.context() as before:
        old = IMAGE_PRESETS["cifar10"].having(held_out=0.04, split_seed=None)
        before.setattr("training.train.PRESETS", {"cifar10": old})
        assert train("cifar10", data, tmp_path / "whole", *seed) == 0
        before.setattr(batches.ImageSource, "batch", interrupting)
        assert train("cifar10", data, out, *seed) == 128 + signal.SIGINT
    state = read_torch(out / run.STATE)
    del state["config"]["split_seed"]
    torch.save(state, out / run.STATE)
    assert train("cifar10", data, out, *seed) == 0
    one, two = (load(folder / run.CHECKPOINT) for folder in (tmp_path / "whole", out))
    assert one.figures["held_out_loss"] == two.figures["held_out_loss"]
    assert train("cifar10", data, tmp_path / "new", *seed) == 0
    new = load(tmp_path / "new" / run.CHECKPOINT)
    assert new.figures["held_out_loss"] != one.figures["held_out_loss"]


def test_only_a_run_of_an_earlier_version_changes_what_is_held_out() -> None:
    config = IMAGE_PRESETS["cifar10"]
    old = completed({"held_out": 0.02})
    assert run.as_begun(config, {"config": old}) == config.having(split_seed=None, held_out=0.02)
    assert run.as_begun(config, {"config": config.to_dict()}) == config
    assert run.as_begun(config, None) == config
    text = TEXT_PRESETS["gpt2"]
    assert run.as_begun(text, {"config": old}) == text
