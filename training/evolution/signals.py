"""Gradients of absent connections (as in RigL) and Hebbian correlations: where to change.

RigL (Evci et al. 2020) grows absent weights where their gradient is largest. A probe of zeros is
added to all mixing weights, present or absent; its gradient is that of every connection at once.

Shape legend: N clusters, B batch, D channel.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from luminanet.frozen import ClusterWeights
from luminanet.topology import Connection
from training.data.batches import Batch
from training.evolution.field_gradients import Listener, Prospects, resonance, worth
from training.evolution.worth import Choice
from training.model.network import Network, positions, unpack
from training.step.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Signals:
    """Measured on a few batches, for every cluster and every possible connection."""

    gradient: dict[int, float]
    """Norm of the loss's gradient in a cluster, per root of its neurons."""
    activity: dict[int, float]
    """Root mean square of a cluster's message, after its mean over the batch is taken away."""
    worth: dict[Connection, float]
    """|d loss / d mixing weight|: how the source's message goes with the target's gradient."""
    agreement: dict[Connection, float]
    """|correlation| of the source's message and what the target's own state would like to hear:
    what fires together (Hebb), as in the rewiring of G2GNet (2025)."""
    prospects: Prospects = field(default_factory=dict)
    """Squared norm of the gradient of what a change of fields adds (field_gradients.py)."""
    resonance: Prospects = field(default_factory=dict)
    """Mean squared correlation of what a change adds with the cluster's hidden state."""
    missed: dict[Choice, float] = field(default_factory=dict)
    """For a selection, which asks for nothing else: what each receptive field is worth (worth.py).
    """


def measure(trainer: Trainer, batches: list[Batch], fields: bool = False) -> Signals:
    """`fields`: also what the clusters of a text network would gain from seeing more."""
    model = trainer.model
    assert isinstance(model, Network)
    model.eval()
    clusters = list(positions(model.topology))
    size = len(clusters)
    # Zeros change nothing, but their gradient is that of every possible connection.
    probe_NN = torch.zeros(size, size, device=trainer.device, requires_grad=True)
    trainer.optimizer.zero_grad(set_to_none=False)
    wanted: list[Tensor] = []
    with Listener(model) as listener:
        for batch in batches:
            trainer.loss(batch, probe=probe_NN).backward()  # type: ignore[no-untyped-call]
            taken = listener.take()
            wanted += [taken] if fields else []
    gradient = unpack(
        model.frozen,
        {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()},
    )
    trainer.optimizer.zero_grad(set_to_none=False)
    assert probe_NN.grad is not None
    with torch.no_grad():
        tokens = [batch.inputs.to(trainer.device) for batch in batches]
        said_NBD, wanted_NBD = model.activity(tokens[0])
        prospects = worth(model, tokens, wanted) if fields else {}
        resonances = resonance(model, tokens[0]) if fields else {}
    return Signals(
        gradient={c: _norm(w) / math.sqrt(len(w.bias_H)) for c, w in gradient.clusters.items()},
        activity=dict(zip(clusters, _spread(said_NBD).tolist(), strict=True)),
        worth=_by_connection(clusters, probe_NN.grad.abs()),
        agreement=_by_connection(clusters, correlation(said_NBD, wanted_NBD)),
        prospects=prospects,
        resonance=resonances,
    )


def correlation(said_NBD: Tensor, wanted_NBD: Tensor) -> Tensor:
    """[N targets, N sources], each |correlation| over batch and channel together."""
    said = (said_NBD - said_NBD.mean(1, keepdim=True)).flatten(1)
    wanted = (wanted_NBD - wanted_NBD.mean(1, keepdim=True)).flatten(1)
    tiny = torch.finfo(said.dtype).tiny
    said = said / said.norm(dim=1, keepdim=True).clamp(min=tiny)
    wanted = wanted / wanted.norm(dim=1, keepdim=True).clamp(min=tiny)
    agreement: Tensor = (wanted @ said.T).abs()
    return agreement


def _spread(said_NBD: Tensor) -> Tensor:
    return said_NBD.var(dim=1, unbiased=False).mean(-1).sqrt()


def _by_connection(clusters: list[int], matrix_NN: Tensor) -> dict[Connection, float]:
    """Rows are targets, columns sources."""
    rows = matrix_NN.tolist()
    return {
        Connection(source=source, target=target): rows[t][s]
        for t, target in enumerate(clusters)
        for s, source in enumerate(clusters)
    }


def _norm(weights: ClusterWeights) -> float:
    arrays = (weights.see_IH, weights.bias_H, weights.hear_DH, weights.send_HD, weights.readout_HO)
    return math.sqrt(sum(float((array**2).sum()) for array in arrays))
