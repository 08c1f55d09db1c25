import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from luminanet import reference
from luminanet.errors import ConfigError
from luminanet.fields import Patch
from luminanet.frozen import FrozenNet
from luminanet.topology import Cluster
from training.data.batches import scale
from training.model.initial import initial_net
from training.model.network import Network
from training.model.whitening import fold, whitening
from training.presets import IMAGE_PRESETS
from training.topologies import dense_image, paper_image, scales_image

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
    (kernels, matrix) = next(iter(whitening(net, torch.from_numpy(PIXELS), FLOOR).items()))
    assert kernels == (Patch((0, 1, 2), 0, 0, 8, 8),)
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


def test_patches_of_one_shape_and_scale_share_a_matrix_whatever_they_see() -> None:
    net = initial_net(paper_image(8, 4, 0), 0, PIXELS)
    white = whitening(net, torch.from_numpy(PIXELS), FLOOR)
    quarter = Patch((0,), 0, 0, 16, 16)
    assert {k: tuple(matrix.shape) for k, matrix in white.items()} == {(quarter,): (256, 256)}
    assert fold(net, {}) == net


def test_as_many_pixels_of_another_scale_or_shape_have_their_own_matrix() -> None:
    seed = scales_image(8, 4, 0)
    wide = Cluster(99, 0, 8, (Patch((0, 1, 2), 0, 0, 4, 16),))
    net = initial_net(seed.having([*seed.clusters, wide], ()), 0, PIXELS)
    assert {net.topology.inputs(c) for c in net.topology.clusters} == {192}
    white = whitening(net, torch.from_numpy(PIXELS), FLOOR)
    assert len(white) == 4
    images = PIXELS[:5].astype(np.float32) / 255
    with torch.no_grad():
        network = Network(net, white=white)
        found = network(torch.from_numpy(images)).numpy()
    assert np.abs(found - reference.forward(fold(net, white), images)).max() < 1e-4
    fields = network.inputs(scale(torch.from_numpy(PIXELS)))
    for group, pixels_KBI in zip(network.groups, fields, strict=True):
        for cluster, pixels_BI in zip(group.clusters, pixels_KBI, strict=True):
            largest = torch.linalg.eigvalsh(torch.cov((pixels_BI @ white[cluster.kernels]).T))[-1]
            assert 0.3 < largest < 3


def test_what_has_no_matrix_beside_what_has_one_is_left_as_it_is() -> None:
    net = initial_net(scales_image(8, 4, 0), 0, PIXELS)
    half = (Patch((0, 1, 2), 0, 0, 8, 8, pool=2),)
    every = whitening(net, torch.from_numpy(PIXELS), FLOOR)
    white = {kernels: matrix for kernels, matrix in every.items() if kernels != half}
    images = PIXELS[:5].astype(np.float32) / 255
    with torch.no_grad():
        found = Network(net, white=white)(torch.from_numpy(images)).numpy()
    assert np.abs(found - reference.forward(fold(net, white), images)).max() < 1e-4


def test_whitening_does_not_go_with_signs_that_are_kept() -> None:
    with pytest.raises(ConfigError, match="--whiten 0"):
        IMAGE_PRESETS["cifar10"].having(whiten=0.1, optimizer="eg")
    with pytest.raises(ConfigError, match="negative"):
        IMAGE_PRESETS["cifar10"].having(whiten=-0.1)
