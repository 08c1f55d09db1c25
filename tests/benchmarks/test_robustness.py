import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.attacks import fgsm, pgd, pruned, synapses
from benchmarks.robustness import Result, main, markdown
from benchmarks.synapses import distance, faded, flipped, shape
from luminanet.frozen import FrozenNet
from tests.datasets import write_images
from tests.nets import random_net
from training.evolution.operators.clusters import Grow
from training.evolution.transplant import transplant
from training.model.initial import initial_net
from training.model.network import Network
from training.run.run import Run
from training.topologies import SEEDINGS

torch.set_num_threads(1)
PURE = "kurtosis of log w"
NET = initial_net(SEEDINGS["fine"](8, 4, 0), 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(8, 3, 32, 32, generator=generator), torch.arange(8)


# ---------------------------------------------------------------------- attacks


@given(seed=st.integers(0, 1000), epsilon=st.sampled_from([2 / 255, 8 / 255, 0.5]))
def test_attacks_stay_within_epsilon_and_the_range_of_pixels(seed: int, epsilon: float) -> None:
    model, (images, labels) = Network(NET).eval(), batch(seed)
    generator = torch.Generator().manual_seed(seed)
    for attacked in (
        fgsm(model, images, labels, epsilon),
        pgd(model, images, labels, epsilon, generator, steps=3),
    ):
        assert (attacked - images).abs().max() <= epsilon + 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1


def test_attacks_raise_the_loss_and_ten_steps_more_than_one() -> None:
    model, (images, labels) = Network(NET).eval(), batch(0)
    generator = torch.Generator().manual_seed(0)

    def loss(x: torch.Tensor) -> float:
        return F.cross_entropy(model(x), labels).item()

    noise = (images + (8 / 255) * torch.randn(images.shape, generator=generator).sign()).clamp(0, 1)
    one = loss(fgsm(model, images, labels, 8 / 255))
    ten = loss(pgd(model, images, labels, 8 / 255, generator))
    assert loss(images) < one < ten
    assert loss(noise) < one


def test_an_attack_leaves_model_and_images_as_they_were() -> None:
    model, (images, labels) = Network(NET).eval(), batch(0)
    before = images.clone()
    fgsm(model, images, labels, 0.1)
    assert torch.equal(images, before)
    assert all(p.grad is None for p in model.parameters())


def test_without_room_to_move_an_attack_changes_nothing() -> None:
    model, (images, labels) = Network(NET).eval(), batch(0)
    assert torch.equal(fgsm(model, images, labels, 0.0), images)
    assert torch.equal(pgd(model, images, labels, 0.0, torch.Generator()), images)


# ---------------------------------------------------------------------- pruning, distributions


@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_pruning_removes_the_smallest_synapses_of_all(seed: int, share: float) -> None:
    net = random_net(seed, text=False)
    before = np.concatenate([a.ravel() for a in synapses(net).values()])
    after = np.concatenate([a.ravel() for a in synapses(pruned(net, share)).values()])
    gone = (after == 0) & (before != 0)
    assert gone.sum() == pytest.approx(share * before.size, abs=1)
    assert np.array_equal(after[~gone], before[~gone])
    if 0 < share < 1:
        assert np.abs(before[gone]).max() <= np.abs(after[~gone]).min()
    assert pruned(net, share).gates == net.gates


def test_messages_that_nobody_hears_do_not_count_as_synapses() -> None:
    assert {name for _, name in synapses(NET)} == {"see_IH", "readout_HO"}
    assert not NET.topology.connections


def test_the_shape_tells_normal_from_lognormal_weights() -> None:
    rng = np.random.default_rng(0)

    def filled(draw: str) -> FrozenNet:
        def fresh(array: np.ndarray) -> np.ndarray:
            normal = rng.standard_normal(array.shape)
            sign = rng.choice([-1, 1], array.shape)
            return (sign * np.exp(normal) if draw == "log" else normal).astype(np.float32)

        return replace(
            NET,
            clusters={
                k: replace(w, see_IH=fresh(w.see_IH), readout_HO=fresh(w.readout_HO))
                for k, w in NET.clusters.items()
            },
        )

    log, normal = shape(filled("log")), shape(filled("normal"))
    assert log.to_lognormal < 0.03 < log.to_normal
    assert normal.to_normal < 0.03 < normal.to_lognormal
    assert log.skewness == pytest.approx(0, abs=0.2)
    assert normal.skewness == pytest.approx(-1.5, abs=0.3)
    assert normal.near_zero == pytest.approx(0.08, abs=0.02)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    assert distance(np.array([-1.0, 1.0])) == pytest.approx(0.3413, abs=1e-3)
    assert distance(np.random.default_rng(0).standard_normal(20_000)) < 0.02


def test_flipped_signs_are_counted_among_weights_that_had_one() -> None:
    changed = {k: replace(w, see_IH=-w.see_IH) for k, w in NET.clusters.items()}
    assert flipped(NET, NET) == 0
    see, readout = (
        sum(a.size for (_, name), a in synapses(NET).items() if name == kind)
        for kind in ("see_IH", "readout_HO")
    )
    assert flipped(NET, replace(NET, clusters=changed)) == pytest.approx(see / (see + readout))
    grown = transplant(NET, Grow(0, 4), seed=3)
    louder = {
        k: replace(w, readout_HO=w.readout_HO + (w.readout_HO == 0))
        for k, w in grown.clusters.items()
    }
    assert flipped(grown, replace(grown, clusters=louder)) == 0


def test_synapses_that_growth_made_at_zero_have_not_faded() -> None:
    grown = transplant(NET, Grow(0, 400), seed=3)
    normal = shape(NET).near_zero
    assert shape(grown).near_zero > normal + 0.3
    assert faded(grown, grown) < normal + 0.05
    quiet = {k: replace(w, see_IH=w.see_IH * (k < 8)) for k, w in NET.clusters.items()}
    assert faded(NET, replace(NET, clusters=quiet)) > normal + 0.2


# ---------------------------------------------------------------------- the command


def compare(data: Path, root: Path, *more: str) -> int:
    options = ["--data", str(data), "--out", str(root / "runs"), "--report", str(root)]
    return main([*options, "--threads", "1", "--batch", "16", "--steps", "6", *more])


def test_the_table_compares_both_rules_and_is_not_measured_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(data, tmp_path, "--seeds", "0") == 0
    written = (tmp_path / "robustness.md").read_text()
    runs = json.loads((tmp_path / "robustness.json").read_text())["runs"]
    assert [(run["rule"], run["seed"]) for run in runs] == [
        ("adamw", 0),
        ("adamw-fast", 0),
        ("eg", 0),
    ]
    theirs, fast, ours = (run["measures"] for run in runs)
    assert theirs != fast
    assert ours["flipped signs"] == 0 < theirs["flipped signs"] < 0.5
    assert ours["steps"] == theirs["steps"] == 6
    assert {"pruned by 95%", "FGSM 2/255", "PGD-10 8/255", "KS to log-normal"} <= set(ours)
    assert all(0 <= ours[name] <= 1 for name in ("accuracy", "near zero", "PGD-10 4/255"))
    assert str(tmp_path) not in written
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", lambda _: pytest.fail("trained again"))
        assert compare(data, tmp_path, "--seeds", "0") == 0
    assert (tmp_path / "robustness.md").read_text() == written
    assert compare(data, tmp_path, "--seeds", "0", "--steps", "7") == 2
    assert "choose another --out" in capsys.readouterr().err


def test_differences_are_seed_by_seed() -> None:
    made = [
        Result(rule, seed, {"steps": 1000, "accuracy": 0.5 + seed / 10 + gain, PURE: 2 * seed})
        for seed in (0, 1)
        for rule, gain in (("adamw", 0.0), ("eg", 0.02))
    ]
    steps, accuracy, kurtosis = markdown(made).splitlines()[2:]
    assert steps == "| steps | 1,000 ± 0 |  | 1,000 ± 0 | +0 ± 0 |  |"
    assert accuracy == "| accuracy | 55.0 ± 7.1 % |  | 57.0 ± 7.1 % | +2.0 ± 0.0 % |  |"
    assert kurtosis.endswith("| 1.000 ± 1.414 |  | 1.000 ± 1.414 | +0.000 ± 0.000 |  |")
    assert markdown(made[:1]).splitlines()[3] == "| accuracy | 50.0 % |  |  |  |  |"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--seeds", "one"], "not a list"),
        (["--seconds", "0"], "more than 0"),
        (["--data", "nowhere"], "check --data"),
    ],
)
def test_bad_options_are_clear_errors(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert compare(data, tmp_path, *more) == 2
    assert says in capsys.readouterr().err
