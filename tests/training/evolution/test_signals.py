import numpy as np
import pytest
import torch

from training.data.batches import ImageSource
from training.evolution.signals import correlation, measure
from training.step.trainer import Trainer


def test_signals_cover_every_cluster_and_every_possible_connection(
    trainer: Trainer, source: ImageSource
) -> None:
    signals = measure(trainer, [source.batch(0)])
    assert set(signals.gradient) == set(signals.activity) == set(range(12))
    assert len(signals.worth) == len(signals.agreement) == 144
    assert min(signals.gradient.values()) > 0
    assert all(0 <= value <= 1 + 1e-5 for value in signals.agreement.values())


def test_measuring_changes_nothing(trainer: Trainer, source: ImageSource) -> None:
    before = trainer.state()
    measure(trainer, [source.batch(0)])
    for name, value in before["weights"].items():
        assert torch.equal(value, trainer.state()["weights"][name])
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def test_agreement_is_the_correlation_of_what_is_said_and_wanted() -> None:
    rng = np.random.default_rng(0)
    said, wanted = rng.standard_normal((2, 3, 50, 1))
    found = correlation(torch.from_numpy(said), torch.from_numpy(wanted))
    for target in range(3):
        for source in range(3):
            expected = abs(np.corrcoef(said[source, :, 0], wanted[target, :, 0])[0, 1])
            assert found[target, source].item() == pytest.approx(expected)
