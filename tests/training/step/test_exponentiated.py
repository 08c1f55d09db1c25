import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luminanet.errors import ConfigError
from tests.training.conftest import SMALL
from training.config import ImageLuminaNet
from training.data.batches import ImageSource
from training.evolution.evolve import adopt, read_slots
from training.evolution.operators.clusters import Grow
from training.evolution.transplant import mutate
from training.model.initial import initial_net
from training.model.network import Network
from training.step.exponentiated import FLOOR, RATE, ExponentiatedGradient, is_synapse
from training.step.trainer import GATE_RATE, Trainer
from training.topologies import SEEDINGS
from training.train import configure, parser

EG = SMALL.having(optimizer="eg", whiten=0.0)


def stepped(weights: torch.Tensor, gradients: list[torch.Tensor], **options: float) -> torch.Tensor:
    """The weights after one step per gradient."""
    parameter = torch.nn.Parameter(weights.clone())
    optimizer = ExponentiatedGradient([parameter], **options)  # type: ignore[arg-type]
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.fixture
def learner(source: ImageSource) -> Trainer:
    net = initial_net(SEEDINGS["fine"](8, 4, 0), 0)
    trainer = Trainer(Network(net), EG, torch.device("cpu"))
    for step in range(3):
        trainer.train(source.batch(step))
    return trainer


# ---------------------------------------------------------------------- the rule


@given(
    seed=st.integers(0, 100_000),
    steps=st.integers(1, 12),
    scale=st.sampled_from([1e-20, 1e-6, 1.0, 1e6]),
    rate=st.sampled_from([1e-3, 0.3, 30.0]),
    decay=st.sampled_from([0.0, 0.1, 10.0]),
)
def test_no_sign_ever_flips(seed: int, steps: int, scale: float, rate: float, decay: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, 5, generator=rng) * scale
    gradients = [torch.randn(3, 5, generator=rng) for _ in range(steps)]
    after = stepped(weights, gradients, lr=rate, weight_decay=decay)
    assert torch.equal(after.sign(), weights.sign())
    assert after.isfinite().all()


@given(scale=st.floats(1e-4, 1e4), size=st.floats(1e-3, 1e3))
def test_a_steady_step_changes_every_weight_by_the_same_share(scale: float, size: float) -> None:
    weights = torch.tensor([size, -size, 3 * size, -7 * size])
    after = stepped(weights, [scale * torch.ones(4)], lr=0.02)
    expected = torch.tensor([-0.02, 0.02, -0.02, 0.02])
    assert torch.allclose((after / weights).log(), expected, atol=1e-4)


def test_the_first_steps_follow_the_formula() -> None:
    weights = torch.tensor([0.5, -0.25])
    gradients = [torch.tensor([1.0, 2.0]), torch.tensor([-3.0, 1.0])]
    after = stepped(weights, gradients, lr=0.1, weight_decay=0.2)
    expected, first, second = weights.double().numpy(), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(gradients, 1):
        g = gradient.double().numpy()
        first, second = 0.9 * first + 0.1 * g, 0.99 * second + 0.01 * g**2
        direction = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        expected = expected * np.exp(-0.1 * (np.sign(expected) * direction + 0.2))
    assert after.numpy() == pytest.approx(expected, rel=1e-5)


def test_weight_decay_shrinks_all_weights_by_the_same_factor() -> None:
    weights = torch.tensor([1.0, -1e-3])
    after = stepped(weights, [torch.zeros(2)] * 10, lr=0.1, weight_decay=0.5)
    assert torch.allclose(after / weights, torch.full((2,), np.exp(-0.5)).float())


def test_what_fades_stops_at_the_floor() -> None:
    after = stepped(torch.tensor([1.0, -1.0]), [torch.zeros(2)] * 40, lr=1.0, weight_decay=1.0)
    assert after.tolist() == pytest.approx([FLOOR, -FLOOR])


def test_a_zero_gets_its_sign_from_the_first_step_and_keeps_it() -> None:
    push = torch.tensor([2.0, -3.0, 0.0])
    first = stepped(torch.zeros(3), [push], birth=1e-3)
    assert first.tolist() == pytest.approx([-1e-3, 1e-3, 0.0])
    later = stepped(torch.zeros(3), [push, *[-push] * 50], birth=1e-3, lr=0.5)
    assert later.sign().tolist() == [-1, 1, 0]
    assert later.abs().max() < 1e-3


def test_groups_that_are_not_exponentiated_learn_as_by_adamw() -> None:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}
    eg = ExponentiatedGradient([{"params": [ours], "exponentiated": False}], **options)  # type: ignore[arg-type]
    adamw = torch.optim.AdamW([theirs], **options)  # type: ignore[arg-type]
    for k in range(20):
        ours.grad = theirs.grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(k))
        eg.step()
        adamw.step()
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert set(eg.state[ours]) == set(adamw.state[theirs])


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"birth": 0.0}, {"betas": (0.9, 1.0)}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"negative|between"):
        stepped(torch.ones(1), [], **wrong)


# ---------------------------------------------------------------------- in training


def test_training_lowers_the_loss_and_keeps_the_signs_of_all_synapses(
    learner: Trainer, source: ImageSource
) -> None:
    def synapses() -> dict[str, torch.Tensor]:
        named = learner.model.named_parameters()
        return {name: p.detach().clone() for name, p in named if is_synapse(name)}

    before, loss = synapses(), learner.score(source.held_out).loss
    for step in range(3, 40):
        learner.train(source.batch(step))
    after = synapses()
    assert learner.score(source.held_out).loss < loss * 0.95
    assert all(torch.equal(before[name].sign(), after[name].sign()) for name in before)
    assert not torch.equal(before["see_0"], after["see_0"])


def test_only_synapses_are_exponentiated(learner: Trainer) -> None:
    by_id = {id(p): name for name, p in learner.model.named_parameters()}
    chosen = {
        by_id[id(p)].split("_")[0]: (group["exponentiated"], group["rate"])
        for group in learner.optimizer.param_groups
        for p in group["params"]
    }
    assert {name for name, (yes, _) in chosen.items() if yes} == {"see", "hear", "send", "readout"}
    assert chosen["see"] == (True, RATE)
    assert chosen["bias"] == (False, 1.0)
    assert chosen["gates"] == (False, GATE_RATE)


def test_grown_neurons_keep_the_function_and_then_learn(
    learner: Trainer, source: ImageSource
) -> None:
    loss = learner.score(source.held_out).loss
    adopt(learner, mutate(read_slots(learner), Grow(0, 3), seed=1))
    assert learner.score(source.held_out).loss == pytest.approx(loss, rel=1e-3)
    assert not read_slots(learner).weights.clusters[0].readout_HO[-3:].any()
    learner.train(source.batch(3))
    born = read_slots(learner).weights.clusters[0].readout_HO[-3:]
    assert born.all()
    for step in range(4, 12):
        learner.train(source.batch(step))
    grown = read_slots(learner).weights.clusters[0].readout_HO[-3:]
    assert np.array_equal(np.sign(grown), np.sign(born))
    assert not np.array_equal(grown, born)


def test_a_saved_state_continues_exactly(learner: Trainer, source: ImageSource) -> None:
    again = Trainer(Network(initial_net(SEEDINGS["fine"](8, 4, 0), 1)), EG, torch.device("cpu"))
    again.restore(copy.deepcopy(learner.state()))
    for trainer in (learner, again):
        trainer.train(source.batch(3))
    ours, theirs = dict(again.model.named_parameters()), dict(learner.model.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_command_line_chooses_the_optimizer() -> None:
    words = ["--preset", "cifar10", "--optimizer", "eg", "--whiten", "0"]
    for chosen, optimizer in ((words, "eg"), (words[:2], "adamw")):
        model = configure(parser().parse_args(chosen)).model
        assert isinstance(model, ImageLuminaNet)
        assert model.optimizer == optimizer
    for wrong in (
        ["--preset", "cifar10", "--optimizer", "sgd"],
        ["--preset", "lenet5", *words[2:]],
        words[:4],
    ):
        with pytest.raises(ConfigError, match=r"sgd|no optimizer|--whiten 0"):
            configure(parser().parse_args(wrong))
