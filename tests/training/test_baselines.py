import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.freeze import main as freeze
from luminanet.errors import CheckpointError, ConfigError
from luminanet.gpt2 import ACTIVATIONS, Gpt2Config, forward
from training.baselines.deit import Deit
from training.baselines.gpt2 import Gpt2
from training.baselines.lenet5 import LeNet5
from training.baselines.mlp_mixer import MlpMixer
from training.baselines.mobilevit import MobileVit
from training.baselines.registry import BASELINES, Baseline, Recipe, macs, parameters, thaw
from training.baselines.resmlp import ResMlp
from training.checkpoint import BaselineCheckpoint, load, load_baseline, save
from training.config import LEARNING_RATES
from training.data.batches import Batch, ImageSource
from training.data.datasets import LABELS, load_images
from training.presets import IMAGE_PRESETS, PRESETS
from training.step.trainer import SETTLING_BATCHES, Trainer
from training.train import main

CONFIG = Gpt2Config(vocab_size=50, context=16, width=32, heads=4, layers=2)
MEAN = np.array([0.4, 0.5, 0.6], np.float32)
STD = np.array([0.2, 0.3, 0.2], np.float32)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        *(replace(CONFIG, activation=name) for name in ACTIVATIONS),
        replace(CONFIG, norm_epsilon=0.1, inner=24, tied=False),
    ],
    ids=str,
)
def test_torch_and_the_reference_give_the_same_logits(config: Gpt2Config) -> None:
    model = Gpt2(config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tokens = np.random.default_rng(0).integers(0, 50, (2, 16))
    expected = forward(model.freeze(), tokens)
    assert np.abs(model(torch.from_numpy(tokens)).detach().numpy() - expected).max() <= 1e-4


def test_logits_are_those_of_transformers() -> None:
    """Recorded from GPT2LMHeadModel (transformers 5.24) with the same made-up weights."""
    config = Gpt2Config(vocab_size=5, context=4, width=8, heads=2)
    model = Gpt2(config, seed=0)
    with torch.no_grad():
        for i, (name, shape) in enumerate(config.shapes().items()):
            value = np.sin(np.arange(np.prod(shape)) * 1.7 + i).astype(np.float32)
            model.get(name).copy_(torch.from_numpy(value).view(shape))
    expected = [
        [-3.56792, 1.16732, 4.76256, 3.70673, -0.96907],
        [-2.50815, 0.79362, 3.32035, 2.60445, -0.65493],
        [-3.51084, 1.27253, 4.81315, 3.65329, -1.07434],
        [-3.39195, 0.73909, 4.14834, 3.50635, -0.55991],
    ]
    found = model(torch.tensor([[3, 0, 4, 1]])).detach().numpy()[0]
    assert np.abs(found - np.array(expected)).max() < 1e-4


def test_it_starts_as_gpt2_does() -> None:
    net = Gpt2(CONFIG, seed=1).freeze()
    assert abs(net.tensors["wte.weight"].std() - 0.02) < 0.002
    assert abs(net.tensors["h.0.mlp.c_proj.weight"].std() - 0.01) < 0.001
    assert (net.tensors["ln_f.weight"] == 1).all()
    assert not net.tensors["h.1.attn.c_attn.bias"].any()
    wide = Gpt2(CONFIG, seed=1, deviation=0.04).freeze()
    for name, value in net.tensors.items():
        scale = 1 if value.ndim == 1 else 2
        assert np.allclose(wide.tensors[name], scale * value), name


# ---------------------------------------------------------------------- image networks


def baseline(name: str, seed: int = 0) -> Baseline:
    return Baseline(Recipe(name, MEAN, STD), seed)


PUBLISHED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "Mixer-S/16": (lambda: MlpMixer(patch=16, size=224, classes=1000), 18_528_264),
    "ResMLP-S12": (lambda: ResMlp(patch=16, size=224, classes=1000), 15_350_872),
    "DeiT-Ti": (lambda: Deit(patch=16, size=224, classes=1000), 5_717_416),
    "MobileViT-XXS": (lambda: MobileVit(strides=(2, 2), classes=1000), 1_272_024),
    "LeNet-5": (BASELINES["lenet5"], 61_706 + 2 * 6 * 25),  # the usual count, two colours more
    "AlexNet": (BASELINES["alexnet"], 2_472_266),
    "ResNet-18": (BASELINES["resnet18"], 11_173_962),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_as_many_parameters_as_published(name: str) -> None:
    build, expected = PUBLISHED[name]
    with torch.device("meta"):
        assert parameters(build()) == expected


@pytest.mark.parametrize("name", [name for name in BASELINES if name.endswith("-1m")])
def test_a_small_size_is_no_larger_than_luminanet_may_be(name: str) -> None:
    evolution = IMAGE_PRESETS["cifar10"].evolution
    assert evolution is not None
    assert 700_000 < parameters(baseline(name)) <= evolution.max_parameters


@pytest.mark.parametrize("name", BASELINES)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    model = baseline(name)
    with torch.no_grad():
        for parameter in model.parameters():  # some start at zero, and stop what is below them
            parameter.add_(torch.randn_like(parameter) * 0.02)
    logits = model(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize(
    "name", ["lenet5", "mlp-mixer-1m", "resmlp-1m", "deit-1m", "mobilevit", "resnet18-1m"]
)
def test_the_seed_alone_draws_the_weights(name: str) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (baseline(name, seed).freeze().tensors for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert not all(torch.equal(one[n], other[n]) for n in one)


def test_images_are_normalised_inside() -> None:
    model = baseline("lenet5")
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.from_numpy(v)[:, None, None] for v in (MEAN, STD))
    assert torch.allclose(model(images), model.network((images - mean) / std))


def test_multiply_accumulates_are_counted_by_hand() -> None:
    one = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(), nn.Linear(8 * 64, 10))
    assert macs(one) == 64 * 8 * 48 + 8 * 64 * 10
    assert macs(LeNet5()) == 28**2 * 6 * 75 + 10**2 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    tokens, width, depth = 65, 96, 10
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    assert macs(baseline("deit-1m")) == 64 * 48 * width + depth * block + width * 10


@pytest.mark.parametrize("name", ["alexnet", "mlp-mixer-1m", "resmlp-1m", "deit-1m", "mobilevit"])
def test_only_matrices_and_filters_decay(name: str) -> None:
    model = baseline(name)
    trainer = Trainer(model, PRESETS[name], torch.device("cpu"))
    decayed = {
        id(p) for g in trainer.optimizer.param_groups if g["weight_decay"] for p in g["params"]
    }
    layers = (m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    assert decayed == {id(layer.weight) for layer in layers}


def test_every_network_has_its_preset() -> None:
    assert list(LEARNING_RATES) == list(BASELINES)
    assert all(PRESETS[name].model.name == name for name in BASELINES)
    with pytest.raises(ConfigError, match="none of"):
        Recipe("vgg", MEAN, STD)


# ---------------------------------------------------------------------- training them


def train(preset: str, data: Path, out: Path, *more: str) -> int:
    options = ["--preset", preset, "--data", str(data), "--out", str(out), "--threads", "1"]
    return main([*options, "--steps", "4", "--batch", "4", "--check-every", "2", *more])


def test_a_resumed_run_keeps_its_batch_statistics_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("mobilevit", data, tmp_path / "whole") == 0
    plain = ImageSource.batch

    def interrupting(self: ImageSource, step: int) -> Batch:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ImageSource, "batch", interrupting)
        assert train("mobilevit", data, tmp_path / "parts") == 128 + signal.SIGTERM
    assert train("mobilevit", data, tmp_path / "parts") == 0
    whole, parts = (
        torch.load(tmp_path / run / "state.pt")["trainer"] for run in ("whole", "parts")
    )
    assert any(name.endswith("running_var") for name in whole["statistics"])
    for slot in ("weights", "average", "second_moment", "statistics"):
        assert all(torch.equal(v, parts[slot][n]) for n, v in whole[slot].items()), slot
    one, two = (load_baseline(tmp_path / run / "ckpt.pt").net for run in ("whole", "parts"))
    assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())


def test_averaged_weights_get_batch_statistics_of_their_own(data: Path) -> None:
    config = IMAGE_PRESETS["mobilevit"].having(batch=16)
    source = ImageSource(load_images(data, "train"), config, len(LABELS))
    trainer = Trainer(baseline("mobilevit"), config, torch.device("cpu"))
    for step in range(2):
        trainer.train(source.batch(step))
    first = next(m for m in trainer.model.modules() if isinstance(m, nn.Conv2d))
    norm = next(m for m in trainer.model.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean is not None
    live = norm.running_mean.clone()
    with trainer.averaged(source), torch.no_grad():
        assert torch.equal(first.weight, trainer.average["network.0.0.weight"])
        mean, std = (torch.from_numpy(v)[:, None, None] for v in (MEAN, STD))
        images = torch.cat([source.batch(k).inputs for k in range(SETTLING_BATCHES)])
        expected = first((images - mean) / std).mean((0, 2, 3))
        assert torch.allclose(norm.running_mean, expected, atol=2e-2)
        assert not torch.allclose(norm.running_mean, live, atol=2e-2)
    assert torch.equal(norm.running_mean, live)
    assert norm.momentum == 0.1


def test_a_trained_baseline_survives_its_checkpoint(data: Path, tmp_path: Path) -> None:
    assert train("lenet5", data, tmp_path, "--steps", "60", "--batch", "16") == 0
    found = load_baseline(tmp_path / "ckpt.pt")
    assert found.name == "lenet5-cifar10"
    assert found.labels == LABELS
    assert found.figures["held_out_accuracy"] > 0.5
    model = thaw(found.net)
    test = load_images(data, "test")
    logits = model(torch.from_numpy(test.pixels_NCYX).float() / 255)
    assert (logits.argmax(1).numpy() == test.labels_N).mean() > 0.5
    assert torch.load(tmp_path / "ckpt.pt", weights_only=True)["family"] == "baseline"


def test_a_baseline_is_refused_where_a_luminanet_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ckpt.pt"
    save(path, BaselineCheckpoint("n", baseline("lenet5").freeze()))
    with pytest.raises(CheckpointError, match="holds lenet5, which is only compared with"):
        load(path)
    assert freeze([str(path)]) == 2
    assert "only compared with" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["ckpt.pt"]


def test_a_damaged_baseline_is_a_clear_error(tmp_path: Path) -> None:
    net = baseline("lenet5").freeze()
    for odd in (replace(net, network="alexnet"), replace(net, network="vgg")):
        with pytest.raises(CheckpointError, match="train it again"):
            thaw(odd)
    path = tmp_path / "ckpt.pt"
    save(path, BaselineCheckpoint("n", net))
    raw = torch.load(path)
    del raw["tensors"]
    torch.save(raw, path)
    with pytest.raises(CheckpointError, match="damaged"):
        load_baseline(path)
    torch.save({"format": 1, "family": "luminanet"}, path)
    with pytest.raises(CheckpointError, match="not a baseline"):
        load_baseline(path)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--width", "8"], "lenet5 has no width: --width is for"),
        (["--dropout", "0.1"], "lenet5 has no dropout: --dropout is for"),
        (["--evolution-events", "3"], "does not evolve"),
        (["--seconds", "-1"], "seconds"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert train("lenet5", data, tmp_path, *more) == 2
    assert says in capsys.readouterr().err
