import pytest
import torch
import torch.nn.functional as F

from training.model.output_layer import Output, cross_entropy


def outputs(rows: int, width: int, vocab: int, seed: int) -> Output:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=generator).requires_grad_()
    return Output(features, torch.randn(vocab, width, generator=generator).requires_grad_())


def plain(own: Output, targets: torch.Tensor, taught: Output | None, share: float) -> torch.Tensor:
    wanted = F.one_hot(targets, len(own.vocabulary_VE)).float()
    if taught:
        chances = (taught.features_NE @ taught.vocabulary_VE.T).softmax(1).detach()
        wanted = wanted.lerp(chances, share)
    return F.cross_entropy(own.features_NE @ own.vocabulary_VE.T, wanted)


@pytest.mark.parametrize("rows", [1, 256, 600])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(rows: int, share: float) -> None:
    own, taught = outputs(rows, 12, 50, 0), outputs(rows, 7, 50, 1)
    teacher = taught if share else None
    targets = torch.randint(0, 50, (rows,), generator=torch.Generator().manual_seed(2))
    found = cross_entropy(own, targets, teacher, share, torch.float32)
    expected = plain(own, targets, teacher, share)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(
        torch.autograd.grad(3 * found, own), torch.autograd.grad(3 * expected, own), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_products_in_bfloat16_keep_the_loss_and_the_direction() -> None:
    own = outputs(300, 32, 100, 0)
    targets = torch.arange(300) % 100
    exact = torch.autograd.grad(cross_entropy(own, targets), own)
    found = cross_entropy(own, targets, dtype=torch.bfloat16)
    assert found.item() == pytest.approx(plain(own, targets, None, 0).item(), rel=1e-2)
    for one, other in zip(torch.autograd.grad(found, own), exact, strict=True):
        assert F.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.999
