"""The output layer of a text model and its loss, some rows at a time.

The logits of a batch (4,096 tokens, 4,096 words: 64 MB) are never held: each block of rows is
multiplied, turned into its loss and its gradients, and forgotten while it is still in the cache.
On a CPU that takes half the time of the plain loss. A teacher's answers (distillation.py) come into
the same blocks. Shape legend: N tokens, E width of the features, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

ROWS = {"cpu": 256}
"""Rows of a block by kind of device: what the cache holds, elsewhere what keeps a GPU busy."""
MANY_ROWS = 4096


class Output(NamedTuple):
    """What a text model gives before its output layer, and the layer's matrix."""

    features_NE: Tensor
    vocabulary_VE: Tensor


def cross_entropy(
    own: Output,
    targets_N: Tensor,
    taught: Output | None = None,
    share: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Mean cross entropy in nats of softmax(features vocabulary^T) against the target ids, of
    which the probabilities of `taught` (same N and V, no gradient) replace `share`.

    Products are computed in `dtype`, sums and the softmax in float32.
    """
    loss: Tensor = _CrossEntropy.apply(*own, targets_N, taught, share, dtype)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    """The gradients are made on the way forward, where the probabilities are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        features_NE: Tensor,
        vocabulary_VE: Tensor,
        targets_N: Tensor,
        taught: Output | None,
        share: float,
        dtype: torch.dtype,
    ) -> Tensor:
        device = features_NE.device.type
        features, vocabulary = features_NE.to(dtype), vocabulary_VE.to(dtype)
        by_features, by_vocabulary = torch.empty_like(features), torch.zeros_like(vocabulary_VE)
        loss = torch.zeros((), device=features.device)
        rows = ROWS.get(device, MANY_ROWS)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets_N), rows):
                block = slice(start, start + rows)
                logs = (features[block] @ vocabulary.T).float().log_softmax(1)
                wanted = _wanted(logs, targets_N[block], taught, share, block, dtype)
                loss -= (wanted * logs).sum()
                wrong = logs.exp_().sub_(wanted).to(dtype)
                by_features[block] = wrong @ vocabulary
                by_vocabulary += (wrong.T @ features[block]).float()
        count = len(targets_N)
        ctx.save_for_backward(by_features.to(features_NE.dtype) / count, by_vocabulary / count)
        return loss / count

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_features, by_vocabulary = ctx.saved_tensors
        return by_features * grad, by_vocabulary * grad, None, None, None, None


def _wanted(
    logs: Tensor,
    targets: Tensor,
    taught: Output | None,
    share: float,
    block: slice,
    dtype: torch.dtype,
) -> Tensor:
    """The probabilities that a block is to give, [rows, V]."""
    if taught is None:
        wanted, own = torch.zeros_like(logs), 1.0
    else:
        features, vocabulary = taught.features_NE[block].to(dtype), taught.vocabulary_VE.to(dtype)
        wanted = (features @ vocabulary.T).float().softmax(1).mul_(share)
        own = 1 - share
    return wanted.scatter_add_(1, targets[:, None], torch.full_like(logs[:, :1], own))
