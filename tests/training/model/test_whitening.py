import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from luminanet import reference
from luminanet.errors import ConfigError
from luminanet.frozen import FrozenNet
from training.data.batches import scale
from training.model.initial import initial_net
from training.model.network import Network
from training.model.whitening import fold, whitening
from training.presets import IMAGE_PRESETS
from training.topologies import dense_image, paper_image

FLOOR = 0.1


def smooth_images(count: int) -> NDArray[np.uint8]:
    """Noise whose neighbouring pixels are alike, as in photographs."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 1, (count, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    fine = rng.normal(0, 0.1, (count, 3, 32, 32))
    return np.clip(128 + 40 * (coarse + fine), 0, 255).astype(np.uint8)


PIXELS = smooth_images(300)


@pytest.fixture
def net() -> FrozenNet:
    return initial_net(dense_image(12, 8, 0), 0, PIXELS)


def test_large_directions_get_the_variance_one_and_small_ones_stay_small(net: FrozenNet) -> None:
    (inputs, matrix) = next(iter(whitening(net, torch.from_numpy(PIXELS), FLOOR).items()))
    assert inputs == 8 * 8 * 3
    network = Network(net)
    fields = torch.cat([x.flatten(0, 1) for x in network.inputs(scale(torch.from_numpy(PIXELS)))])
    before = torch.linalg.eigvalsh(torch.cov(fields.T))
    after = torch.linalg.eigvalsh(torch.cov((fields @ matrix).T))
    assert before[-1] / before[0] > 1000
    expected = before.clamp(min=0) / (before.clamp(min=0) + FLOOR)
    assert torch.allclose(after, expected, atol=1e-3)


def test_the_folded_network_says_the_same_of_plain_pixels(net: FrozenNet) -> None:
    white = whitening(net, torch.from_numpy(PIXELS), FLOOR)
    images = PIXELS[:5].astype(np.float32) / 255
    with torch.no_grad():
        found = Network(net, white=white)(torch.from_numpy(images)).numpy()
    folded = fold(net, white)
    assert np.abs(found - reference.forward(folded, images)).max() < 1e-4
    assert np.abs(found - reference.forward(net, images)).max() > 0.01


def test_every_size_of_field_has_its_own_matrix() -> None:
    net = initial_net(paper_image(8, 4, 0), 0, PIXELS)
    white = whitening(net, torch.from_numpy(PIXELS), FLOOR)
    assert {size: tuple(matrix.shape) for size, matrix in white.items()} == {256: (256, 256)}
    assert fold(net, {}) == net


def test_whitening_does_not_go_with_signs_that_are_kept() -> None:
    with pytest.raises(ConfigError, match="--whiten 0"):
        IMAGE_PRESETS["cifar10"].having(whiten=0.1, optimizer="eg")
    with pytest.raises(ConfigError, match="negative"):
        IMAGE_PRESETS["cifar10"].having(whiten=-0.1)
