"""How good a graph still is: against the numpy reference, and at its task, on real inputs.

Shape legend: N examples or texts, T tokens of a text, V classes or vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.checks.verify import decode_step
from export.graph.session import Session
from export.precisions.table import TABLE
from luminanet import gpt2, interface, reference
from luminanet.artifact import probes
from luminanet.artifact.manifest import Precision
from luminanet.errors import ExportError, VerificationError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import LOGITS

ROWS = 64
Net = FrozenNet | Gpt2Net


@dataclass(frozen=True, slots=True)
class Answers:
    """Float64 logits [.., V] of the numpy reference, and the right answers [..]."""

    logits: NDArray[np.float64]
    targets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a graph loses against the reference. Shares are of 1; `loss` is in nats per example.

    `difference` is the largest |difference of logits| over the largest |logit| (1 at least),
    `typical` the root of the mean squares, one over the other.
    """

    difference: float
    typical: float
    top1: float
    loss: float
    top1_lost: float
    loss_lost: float
    """Share of the loss, and of the bits per byte: the same tokens stand for the same bytes."""
    examples: int

    def bits_per_byte(self, text_bytes: float) -> float:
        """`text_bytes`: what the assessed tokens spell."""
        return self.loss * self.examples / math.log(2) / text_bytes


def answer(net: Net, inputs: NDArray[Any], targets: NDArray[np.int64]) -> Answers:
    """What the reference says of images [N, C, height, width] or windows [N, W] with targets [N],
    or (GPT-2) of texts [N, T] with the token [N, T] that follows each position."""
    parts = (inputs[at : at + ROWS] for at in range(0, len(inputs), ROWS))
    if isinstance(net, Gpt2Net):
        return Answers(np.concatenate([gpt2.forward(net, part) for part in parts]), targets)
    return Answers(np.concatenate([reference.forward(net, part) for part in parts]), targets)


def assess(model: onnx.ModelProto, net: Net, inputs: NDArray[Any], answers: Answers) -> Assessment:
    """Runs the graph on inputs of which the reference's answers are known.

    Raises ExportError when onnxruntime cannot run it or its logits have another shape.
    """
    session = Session(model)
    if isinstance(net, Gpt2Net):
        found = np.stack(list(_cached(session, net, inputs)), 1)
    else:
        found = np.concatenate(list(_plain(session, net, inputs)))
    if found.shape != answers.logits.shape:
        raise ExportError(
            f"the graph gives logits {list(found.shape)}, the network "
            f"{list(answers.logits.shape)}: unroll the network again"
        )
    top1, loss = _score(found.astype(np.float64), answers.targets)
    top1_before, loss_before = _score(answers.logits, answers.targets)
    return Assessment(
        difference=probes.largest(found, answers.logits),
        typical=probes.typical(found, answers.logits),
        top1=top1,
        loss=loss,
        top1_lost=top1_before - top1,
        loss_lost=loss / loss_before - 1,
        examples=answers.targets.size,
    )


def check(assessment: Assessment, precision: Precision) -> None:
    """Raises VerificationError when a graph is further from the reference than its precision
    explains."""
    bound = TABLE[precision].bound
    if not assessment.typical <= bound:
        raise VerificationError(
            f"the {precision} graph is {assessment.typical:.1e} from the numpy reference (relative "
            f"error of the logits), {bound:.0e} is allowed: freeze with another precision"
        )


def _score(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> tuple[float, float]:
    """Share of right first choices, and nats per example."""
    highest = logits.max(-1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(-1)) + highest[..., 0]
    chosen = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return float((logits.argmax(-1) == targets).mean()), float((total - chosen).mean())


def _plain(session: Session, net: FrozenNet, inputs: NDArray[Any]) -> Iterator[NDArray[Any]]:
    graphs = interface.of(net)
    for at in range(0, len(inputs), ROWS):
        yield session.run(graphs.feeds(inputs[at : at + ROWS]))[LOGITS]


def _cached(session: Session, net: Gpt2Net, texts_NT: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Logits [N, V] after each token, with the cache carried from step to step."""
    cache = interface.of(net).empty(len(texts_NT))
    for step in range(texts_NT.shape[1]):
        lengths_N = np.full(len(texts_NT), step, np.int32)
        newest_N1 = texts_NT[:, step : step + 1]
        logits_NV, cache = decode_step(session, newest_N1, lengths_N, cache)
        yield logits_NV
