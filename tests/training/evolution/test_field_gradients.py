"""What seeing more would be worth: against finite differences of the loss, and against numpy."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luminanet.fields import Interval, TextInput
from luminanet.frozen import FrozenNet
from tests.nets import random_net, random_weights, tiny_text_topology
from training.data.batches import TextSource
from training.data.datasets import Tokens
from training.evolution.field_candidates import candidates, direction
from training.evolution.field_gradients import SAMPLED, Listener, resonance, worth
from training.evolution.operators.fields import AddField, SplitField
from training.evolution.signals import measure
from training.evolution.transplant import transplant
from training.model.network import Network
from training.model.text_inputs import TextFields
from training.presets import TEXT_PRESETS
from training.step.trainer import Trainer

SEEDS = st.integers(0, 100_000)


def tokens_of(net: FrozenNet, seed: int) -> torch.Tensor:
    assert isinstance(net.topology.input, TextInput)
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, net.topology.input.vocab_size, (2, 9)))


def loss_of(model: Network, tokens_BT: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten())


def listened(model: Network, tokens_BT: torch.Tensor) -> torch.Tensor:
    with Listener(model) as listener:
        loss_of(model, tokens_BT).backward()  # type: ignore[no-untyped-call]
        return listener.take()


def by_differences(net: FrozenNet, change: AddField | SplitField, tokens_BT: torch.Tensor) -> float:
    """Squared norm of d loss / d what a change adds, less what the bias could learn, per variance;
    one number after the other."""
    assert isinstance(net.topology.input, TextInput)
    size, step = net.topology.input.embedding, 1e-4
    after = transplant(net, change)
    seen = after.topology.cluster(change.cluster).text_fields
    mix = direction(change, net.topology.cluster(change.cluster).intervals)
    model = Network(after).double()
    group = next(g for g in model.groups if change.cluster in {c.id for c in g.clusters})
    g, k = model.groups.index(group), [c.id for c in group.clusters].index(change.cluster)
    rows, bias = model.stack("see", g).data[k], model.stack("bias", g).data[k, 0]

    def difference(nudge: Callable[[float], None]) -> float:
        losses = []
        for move in (step, -step):
            nudge(move)
            with torch.no_grad():
                losses.append(loss_of(model, tokens_BT).item())
            nudge(-move)
        return (losses[0] - losses[1]) / (2 * step)

    assert isinstance(model.inputs, TextFields)
    with torch.no_grad():
        views = model.inputs.look(tokens_BT[:, :-1], model.embed(tokens_BT[:, :-1]), mix)
        view = sum(views[i] * part for i, part in mix.items())
        assert isinstance(view, torch.Tensor)
    total = 0.0
    for h in range(rows.shape[1]):

        def nudge_bias(move: float, h: int = h) -> None:
            bias[h] += move

        by_bias = difference(nudge_bias)
        for e in range(size):

            def nudge(move: float, e: int = e, h: int = h) -> None:
                for field, part in mix.items():
                    rows[seen.index(field) * size + e, h] += move * part

            total += (difference(nudge) - view[:, e].mean().item() * by_bias) ** 2
    some = (view - view.mean(0))[::SAMPLED]
    return total / max((some**2).mean().item(), 1e-6)


@settings(max_examples=8)
@given(SEEDS)
def test_the_worth_of_a_field_is_the_gradient_that_it_would_get(seed: int) -> None:
    net = random_net(seed, text=True)
    changes = candidates(net.topology)
    refinements = [c for c in changes if isinstance(c, SplitField)]
    assume(refinements)
    tokens = tokens_of(net, seed)
    model = Network(net).double()
    found = worth(model, [tokens[:, :-1]], [listened(model, tokens)])
    assert set(found) == set(changes)
    for change in (changes[seed % len(changes)], refinements[seed % len(refinements)]):
        expected = by_differences(net, change, tokens)
        assert found[change] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_noise_that_two_batches_do_not_share_is_worth_nothing() -> None:
    """The gradients of one batch against those of another, not against themselves."""
    net = random_weights(tiny_text_topology(50))
    model = Network(net).double()
    batches = [tokens_of(net, seed) for seed in (1, 2)]
    wanted = [listened(model, tokens) for tokens in batches]
    inputs = [tokens[:, :-1] for tokens in batches]
    both, opposite = (
        worth(model, inputs, wanted),
        worth(model, inputs[:1] * 2, [wanted[0], -wanted[0]]),
    )
    alone = [worth(model, inputs[k : k + 1], wanted[k : k + 1]) for k in range(2)]
    for change, value in both.items():
        assert 0 <= value <= np.sqrt(alone[0][change] * alone[1][change]) * (1 + 1e-6)
    assert set(opposite.values()) == {0.0}


def test_resonance_is_the_correlation_of_field_and_hidden_state() -> None:
    net = random_weights(replace(tiny_text_topology(50), connections=()))
    model = Network(net).double()
    tokens = tokens_of(net, 0)
    with torch.no_grad():
        found = resonance(model, tokens)
        table = model.embed(tokens).numpy()
        seen = model.inputs(tokens, model.embed(tokens))
        hidden = [h for g in model.settle(seen, None) for h in g.numpy()]
    order = [c.id for group in model.groups for c in group.clusters]
    # the field is orthogonal to what cluster 0 sees: lags 0 and 1
    lag3 = np.pad(table, ((0, 0), (3, 0), (0, 0)))[:, : table.shape[1]].reshape(-1, 16)
    own = hidden[order.index(0)]
    expected = np.corrcoef(lag3.T, own.T)[:16, 16:] ** 2
    assert found[AddField(0, Interval(3, 4))] == pytest.approx(np.nanmean(expected), rel=1e-3)


def test_prospects_are_measured_where_fields_may_change_and_leave_no_trace() -> None:
    config = TEXT_PRESETS["tinystories"].having(batch=4, context=16, vocab_size=50)
    rng = np.random.default_rng(0)
    source = TextSource(Tokens(rng.integers(0, 50, 5000), 0), config)
    net = random_weights(tiny_text_topology(50))
    trainer = Trainer(Network(net), config, torch.device("cpu"))
    batches = [source.batch(0), source.batch(1)]
    before = trainer.state()
    signals = measure(trainer, batches, fields=True)
    assert set(signals.prospects) == set(signals.resonance) == set(candidates(net.topology))
    assert all(np.isfinite(v) for v in (*signals.prospects.values(), *signals.resonance.values()))
    assert not measure(trainer, batches).prospects
    for name, value in before["weights"].items():
        assert torch.equal(value, trainer.state()["weights"][name])
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())
