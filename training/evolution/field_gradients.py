"""Gradients of absent weights, as in RigL: what every cluster would gain from another field.

RigL (Evci et al., "Rigging the Lottery", 2020, arXiv 1911.11134) lets absent weights grow where
their gradient is largest. Here a candidate is a field (field_candidates.py), a block of rows.

New rows of `see` start at zero. Their gradient is  seen_E^T @ d loss / d drive_H  over all
positions, whether they are there or not; it needs no pass of its own, only the gradient of the
drives, which is heard on the way back (Listener). What counts of it is

    new         the direction that a change adds to what the cluster sees
                (field_candidates.direction); its mean is taken away, because a bias can learn it
    in scale    per variance of what is seen there: weights that see little learn slowly anyhow
    repeated    the product of two batches' gradients, an estimate of the squared norm that is free
                of the noise that their own squares would add

Shape legend: that of model/network.py; M the neurons of all clusters, side by side, R fields.
"""

from collections.abc import Sequence
from itertools import combinations
from types import TracebackType

import torch
from torch import Tensor

from luminanet.fields import TextField, in_order
from training.evolution.field_candidates import candidates, direction
from training.evolution.operators.fields import AddField, SplitField
from training.model.network import Network
from training.model.text_inputs import TextFields

Prospects = dict[AddField | SplitField, float]
SAMPLED = 4
"""One position of so many tells how large and how alike views are."""
LEAST_VARIANCE = 1e-6


class Listener:
    """Within it, `drives` of the last forward get a gradient from the next backward."""

    def __init__(self, model: Network) -> None:
        self.model = model
        self.drives: list[Tensor] = []

    def __enter__(self) -> "Listener":
        self.handle = self.model.drive.register_forward_hook(self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.handle.remove()

    def _hear(self, _module: object, _inputs: object, drive: Tensor) -> None:
        if drive.requires_grad:
            drive.retain_grad()
            self.drives.append(drive)

    def take(self) -> Tensor:
        """d loss / d drive [B * T, M]; forgets it."""
        found = [drive.grad for drive in self.drives if drive.grad is not None]
        assert len(found) == len(self.model.groups), "one forward and one backward at a time"
        self.drives = []
        return side_by_side([g.to(torch.promote_types(g.dtype, torch.float32)) for g in found])


def side_by_side(stacks: Sequence[Tensor]) -> Tensor:
    """[K, B, H] a group -> [B, M], the clusters in the order of network.positions."""
    return torch.cat([stack.transpose(0, 1).flatten(1) for stack in stacks], 1)


@torch.no_grad()
def worth(model: Network, token_batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> Prospects:
    """Every candidate -> the squared norm of the gradient that what it adds would have.

    `token_batches` [B, T] and `wanted` [B * T, M], what Listener took, of the same batches.
    """
    mixes = directions(model)
    order = in_order({field for mix in mixes.values() for field in mix})
    columns, found = columns_of(model), Prospects()
    views = [_views(model, tokens, order) for tokens in token_batches]
    sums_REM = [
        torch.stack([view.to(gradient.dtype).T @ gradient for view in batch])
        for batch, gradient in zip(views, wanted, strict=True)
    ]
    likeness_RR = _likeness(views[0])
    # Views are multiplied with gradients once a field, and mixed afterwards: a mix is linear.
    for change, mix in mixes.items():
        at = [order.index(field) for field in mix]
        parts = sums_REM[0].new_tensor(list(mix.values()))
        own = [
            torch.tensordot(parts, sums[at][:, :, columns[change.cluster]], 1) for sums in sums_REM
        ]
        # One batch alone has no pair: its own square, noise and all.
        pairs = list(combinations(own, 2)) or [(own[0], own[0])]
        product = sum(float((a * b).sum()) for a, b in pairs) / len(pairs)
        variance = float(parts @ likeness_RR[at][:, at].to(parts.dtype) @ parts)
        found[change] = max(0.0, product) / max(variance, LEAST_VARIANCE)
    return found


@torch.no_grad()
def resonance(model: Network, tokens_BT: Tensor) -> Prospects:
    """Hebbian correlation: every candidate -> mean squared correlation of what it adds with the
    cluster's hidden state (what fires together, Hebb)."""
    assert isinstance(model.inputs, TextFields)
    mixes = directions(model)
    order = in_order({field for mix in mixes.values() for field in mix})
    hidden = model.settle(model.inputs(tokens_BT, model.embed(tokens_BT)), None)
    hidden_BM = _standard(side_by_side(hidden).float())
    views = dict(zip(order, _views(model, tokens_BT, order), strict=True))
    columns, found = columns_of(model), Prospects()
    seen: dict[frozenset[tuple[TextField, float]], Tensor] = {}
    for change, mix in mixes.items():
        key = frozenset(mix.items())  # clusters that saw the same gain the same: one product
        if key not in seen:
            added_BE = torch.stack([views[i].float() * part for i, part in mix.items()]).sum(0)
            seen[key] = _standard(added_BE).T @ hidden_BM / len(hidden_BM)
        found[change] = float((seen[key][:, columns[change.cluster]] ** 2).mean())
    return found


def directions(model: Network) -> dict[AddField | SplitField, dict[TextField, float]]:
    topology = model.topology
    return {
        change: direction(change, topology.cluster(change.cluster).intervals)
        for change in candidates(topology)
    }


def columns_of(model: Network) -> dict[int, slice]:
    """Cluster -> its neurons among M."""
    found, at = dict[int, slice](), 0
    for group in model.groups:
        for cluster in group.clusters:
            found[cluster.id] = slice(at, at + cluster.width)
            at += cluster.width
    return found


def _views(model: Network, tokens_BT: Tensor, fields: Sequence[TextField]) -> list[Tensor]:
    """What is seen of each field, less its mean, [B * T, E]."""
    assert isinstance(model.inputs, TextFields)
    found = model.inputs.look(tokens_BT, model.embed(tokens_BT), fields)
    return [found[field] - found[field].mean(0) for field in fields]


def _likeness(views: Sequence[Tensor]) -> Tensor:
    """The covariance of each two fields [R, R], its mean over all inputs E; from some of the
    positions."""
    some = torch.stack([view[::SAMPLED].float().flatten() for view in views])
    return some @ some.T / some.shape[1]


def _standard(x_BN: Tensor) -> Tensor:
    """Every column with mean 0 and deviation 1, or 0 where it is constant."""
    centred = x_BN - x_BN.mean(0)
    standard: Tensor = centred / centred.norm(dim=0).clamp(min=1e-6) * len(x_BN) ** 0.5
    return standard
