"""Graph against the numpy reference: an artifact is only written when both say the same.

Inputs are random but seeded: several batch sizes, for text also windows that begin before the
text; for GPT-2 prompts of different lengths, then cached steps of all rows together, and a last
step after a full cache of random numbers. The reference computes in float64 whatever the size, so
that one bound fits all; of a GPT-2 so large that whole prompts would take minutes, it reads
shorter ones (WORK), and the end of the context is seen by that last step alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph.session import Session
from luminanet import gpt2, interface, reference
from luminanet.artifact import probes
from luminanet.errors import VerificationError
from luminanet.fields import ImageInput, TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import LENGTHS, LOGITS, PARTS, TOKENS, Arrays
from luminanet.reference import NO_TOKEN

TOLERANCE = 1e-4
BATCHES = (1, 2, 5)
GPT2_ROWS = 3
GPT2_STEPS = 3
WORK = 1 << 34
"""Parameters times tokens that the reference of a GPT-2 may cost: seconds of one core."""

Answers = Iterator[tuple[NDArray[Any], NDArray[np.float64]]]
"""Logits [B, O] of the graph and of the reference."""


@dataclass(frozen=True, slots=True)
class Verification:
    """How well a graph agrees: largest |difference| / max(1, largest |logit|), worst batch."""

    difference: float
    rows: int


def verify(model: onnx.ModelProto, net: FrozenNet | Gpt2Net, seed: int = 0) -> Verification:
    """Runs the graph with onnxruntime on the CPU.

    Raises VerificationError when it is more than TOLERANCE from the reference, MissingExtraError
    when onnxruntime is not installed.
    """
    session = Session(model, VerificationError, "the graph", "unroll the network again")
    rng = np.random.default_rng(seed)
    ask = _ask_gpt2(session, net, rng) if isinstance(net, Gpt2Net) else _ask(session, net, rng)
    with np.errstate(all="ignore"):
        answers = list(ask)
        differences = [_difference(found, expected) for found, expected in answers]
    worst = float(np.max(differences))
    if not np.isfinite(worst):
        raise VerificationError(
            "the logits are not finite: training diverged; freeze an earlier checkpoint"
        )
    if worst > TOLERANCE:
        raise VerificationError(
            f"the ONNX graph is {worst:.1e} from the numpy reference, {TOLERANCE:.0e} is allowed "
            "(relative to the largest logit): do not use it. If another version of onnxruntime "
            "does not help, report this with the checkpoint"
        )
    return Verification(worst, rows=sum(len(found) for found, _ in answers))


def _difference(found: NDArray[Any], expected: NDArray[np.float64]) -> float:
    if found.shape != expected.shape:
        raise VerificationError(
            f"the ONNX graph gives logits {list(found.shape)}, the network {list(expected.shape)}: "
            "they are not the same network; unroll it again"
        )
    return probes.largest(found, expected)


def _ask(session: Session, net: FrozenNet, rng: np.random.Generator) -> Answers:
    shape = net.topology.input
    for batch in BATCHES:
        if isinstance(shape, TextInput):
            inputs = random_windows(shape, batch, rng)
        else:
            inputs = random_images(shape, batch, rng)
        found = session.run(interface.of(net).feeds(inputs))
        yield found[LOGITS], reference.forward(net, inputs)


def random_images(shape: ImageInput, batch: int, rng: np.random.Generator) -> NDArray[Any]:
    """Pixels in 0..1 [B, C, Y, X]."""
    return rng.random((batch, shape.channels, shape.height, shape.width), dtype=np.float32)


def random_windows(shape: TextInput, batch: int, rng: np.random.Generator) -> NDArray[Any]:
    """Token ids [B, W]: the first row is full, the last of several has a single token; every second
    row is of so few tokens that what was there comes again."""
    ids_BW = rng.integers(0, shape.vocab_size, (batch, shape.window))
    few = rng.integers(0, shape.vocab_size, 1 + shape.window // 8)
    ids_BW[1::2] = rng.choice(few, ids_BW[1::2].shape)
    missing_B = np.linspace(0, shape.window - 1, batch).astype(int)
    ids_BW[np.arange(shape.window) < missing_B[:, None]] = NO_TOKEN
    return ids_BW


def _ask_gpt2(session: Session, net: Gpt2Net, rng: np.random.Generator) -> Answers:
    """A prompt for each row alone, then cached steps of all rows; the first fills the cache of a
    net that is small enough."""
    config = net.config
    affordable = max(WORK // net.parameters // GPT2_ROWS, GPT2_STEPS + 1)
    tokens = min(config.context, affordable)
    steps = min(GPT2_STEPS, tokens - 1)
    room = tokens - steps
    lengths = np.array([room, *rng.integers(1, room + 1, GPT2_ROWS - 1)], np.int32)
    texts = [rng.integers(0, config.vocab_size, length + steps) for length in lengths]
    padded = np.stack([np.pad(text, (0, tokens - len(text))) for text in texts])
    expected = gpt2.forward(net, padded)  # what follows a token does not matter to it
    cache = interface.of(net).empty(GPT2_ROWS)
    for row, length in enumerate(lengths):
        own = {name: array[row : row + 1] for name, array in cache.items()}
        nothing = np.zeros(1, np.int32)
        logits, own = decode_step(session, texts[row][None, :length], nothing, own)
        for name, array in own.items():
            cache[name][row] = array[0]
        yield logits, expected[row][length - 1 : length]
    for past in (lengths + np.int32(step) for step in range(steps)):
        newest = np.array([[text[at]] for text, at in zip(texts, past, strict=True)])
        logits, cache = decode_step(session, newest, past, cache)
        yield logits, np.stack([row[at] for row, at in zip(expected, past, strict=True)])
    yield _ask_full(session, net, rng)


def _ask_full(
    session: Session, net: Gpt2Net, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The last token that fits, after a cache of any content."""
    past, layers = net.config.context - 1, range(net.config.layers)
    token = rng.integers(0, net.config.vocab_size, (1, 1))
    cache = random_cache(net, 1, rng)
    logits, _ = decode_step(session, token, np.array([past], np.int32), cache)
    pairs = [[cache[interface.past(part, layer)] for part in PARTS] for layer in layers]
    before = [(keys[:, :, :past], values[:, :, :past]) for keys, values in pairs]
    return logits, gpt2.forward(net, token, before)[:, -1]


def random_cache(net: Gpt2Net, rows: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """As after texts of any length that nobody wrote, and full of other numbers behind them."""
    empty = interface.of(net).empty(rows)
    return {name: rng.standard_normal(a.shape, np.float32) for name, a in empty.items()}


def decode_step(
    session: Session, tokens_BS: NDArray[Any], lengths_B: NDArray[np.int32], cache: Arrays
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Logits after the last step, and the cache with the new steps."""
    found = session.run({TOKENS: tokens_BS, LENGTHS: lengths_B, **cache})
    return found[LOGITS], interface.carried(found)
