"""Adversarial attacks and pruning: pure functions of a model and a batch, or of a network.

FGSM: Goodfellow et al., 2014, arXiv 1412.6572. PGD: Madry et al., 2017, arXiv 1706.06083. Both are
white-box and bound every pixel's change (L-infinity). Shape legend: B batch, C channels, Y rows,
X columns; pixels are in 0..1, and so is epsilon.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.frozen import Array, FrozenNet

SYNAPSES = ("see_IH", "hear_DH", "send_HD", "readout_HO")


def fgsm(model: nn.Module, images_BCYX: Tensor, labels_B: Tensor, epsilon: float) -> Tensor:
    """The images after one step of `epsilon` along the sign of the loss's gradient."""
    return ascend(model, images_BCYX, images_BCYX, labels_B, epsilon, epsilon)


def pgd(
    model: nn.Module,
    images_BCYX: Tensor,
    labels_B: Tensor,
    epsilon: float,
    generator: torch.Generator,
    steps: int = 10,
) -> Tensor:
    """The images after `steps` steps of epsilon / 4 from a random start within epsilon."""
    noise = torch.rand(images_BCYX.shape, generator=generator) * 2 - 1
    attacked = (images_BCYX + epsilon * noise).clamp(0, 1)
    for _ in range(steps):
        attacked = ascend(model, attacked, images_BCYX, labels_B, epsilon, epsilon / 4)
    return attacked


def ascend(
    model: nn.Module, at: Tensor, images: Tensor, labels: Tensor, epsilon: float, step: float
) -> Tensor:
    """A step from `at` up the loss, brought back to within epsilon of `images` and to 0..1."""
    at = at.detach().clone().requires_grad_()
    loss = F.cross_entropy(model(at), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, at)
    moved = at.detach() + step * gradient.sign()
    return torch.clamp(moved, images - epsilon, images + epsilon).clamp(0, 1)


def pruned(net: FrozenNet, share: float) -> FrozenNet:
    """`net` without the smallest `share` of all its synapses together; biases and gates stay."""
    sizes = np.concatenate([np.abs(array).ravel() for array in synapses(net).values()])
    count = round(share * sizes.size)
    threshold = np.partition(sizes, count)[count] if count < sizes.size else np.inf

    def cut(array: Array) -> Array:
        return np.where(np.abs(array) < threshold, np.float32(0), array)

    live = synapses(net)
    clusters = {
        key: replace(w, **{n: cut(live[key, n]) for n in SYNAPSES if (key, n) in live})
        for key, w in net.clusters.items()
    }
    return replace(net, clusters=clusters)


def synapses(net: FrozenNet) -> dict[tuple[int, str], Array]:
    """(cluster, name) -> matrix, of all that take part: not of messages that nobody hears."""
    heard = {connection.source for connection in net.topology.connections}
    hearing = {connection.target for connection in net.topology.connections}
    used = {"see_IH": set(net.clusters), "readout_HO": set(net.clusters)}
    used |= {"hear_DH": hearing, "send_HD": heard}
    return {
        (key, name): getattr(weights, name)
        for key, weights in net.clusters.items()
        for name in SYNAPSES
        if key in used[name]
    }
