"""Decode graph against numpy: its tokens and their probabilities, for many ways to sample.

The logits are those of the graph that the decode graph was made of, which was checked before; the
tokens are those that luminanet/sampling.py chooses from them. Texts are random but seeded, and go
on with the tokens that the decode graph drew. So are the keys and values before them: both graphs
read the same, and to compute true ones would take minutes for a large GPT-2.

Shape legend: B batch, K tokens drawn, V vocabulary, W window, C context.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from export.checks.verify import decode_step, random_cache, random_windows
from export.graph.session import Session
from luminanet import interface, sampling
from luminanet.errors import VerificationError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import DRAWN, LENGTHS, LOGITS, LOGS, NEXT, READ, TOKENS, Arrays
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling

TOLERANCE = 1e-4
DO_NOT = "do not use it; freeze with --decode none, and report this with the checkpoint"
STEPS = 4
"""Tokens that a graph which draws any number of them is asked for."""
MEMORY_BYTES = 1 << 30
"""What the caches of a GPT-2 may take while it is verified."""
LARGEST_SEED = 2**63 - 1
WAYS = (
    Sampling(temperature=0),
    Sampling(),
    Sampling(0.8, top_k=5),
    Sampling(0.8, top_p=0.7),
    Sampling(1.2, top_k=9, top_p=0.9, seed=LARGEST_SEED),
    Sampling(1.0, min_p=0.3),
    Sampling(0.5, repetition_penalty=1.3),
    Sampling(temperature=0, repetition_penalty=1.5),
    Sampling(0.9, 20, 0.8, 0.05, 1.1, seed=7),
)
BATCHES: tuple[Sequence[Sampling], ...] = (WAYS, *([way] for way in WAYS))
"""All together, and each alone: a graph computes only what some row asks for."""


class Step(NamedTuple):
    """What one token of every row was drawn from, and what came out."""

    logits_BV: NDArray[Any]
    seen: Sequence[Sequence[int]]
    ids_B: NDArray[np.int64]
    logs_B: NDArray[np.float32]
    valid_B: NDArray[np.bool_]
    """False where the cache of a row was full before."""


def verify_decode(
    model: onnx.ModelProto, step: onnx.ModelProto, net: FrozenNet | Gpt2Net, seed: int = 0
) -> float:
    """Runs both graphs on the CPU; `step` is what `model` was made of. Returns the largest
    difference of a log-probability, in nats over the largest |logit| (1 at least).

    Raises VerificationError when it is above TOLERANCE, or when a token is not the one that numpy
    chooses; a choice that so small a difference of its logit decides may fall either way.
    """
    remedy = "freeze with --decode none, which leaves it out"
    decoder = Session(model, VerificationError, "the decode graph", remedy)
    network = Session(step, VerificationError, "the graph", "unroll the network again")
    rng, worst = np.random.default_rng(seed), 0.0
    together = _rows(net) if isinstance(net, Gpt2Net) else len(WAYS)
    for ways in (batch[:together] for batch in BATCHES):
        position = int(rng.integers(0, 1000))
        found = (
            _caches(decoder, network, net, ways, position, rng)
            if isinstance(net, Gpt2Net)
            else _windows(decoder, network, net, ways, position, rng)
        )
        for ahead, drawn in enumerate(found):
            for row in map(int, np.flatnonzero(drawn.valid_B)):
                apart = _apart(drawn, row, ways[row], position + ahead)
                worst = max(worst, apart)
    return worst


def _apart(drawn: Step, row: int, way: Sampling, position: int) -> float:
    """How far the log-probability of a row's token is off. Raises VerificationError."""
    logits_V, seen = drawn.logits_BV[row].astype(np.float64), drawn.seen[row]
    token, log = int(drawn.ids_B[row]), float(drawn.logs_B[row])
    scale = max(1.0, float(np.abs(logits_V).max()))
    chosen = sampling.choose(logits_V, seen, way, position).id
    if token != chosen and 0 <= token < len(logits_V):
        nearer_V = logits_V.copy()
        nearer_V[token] += TOLERANCE * scale
        chosen = sampling.choose(nearer_V, seen, way, position).id
    if token != chosen:
        raise VerificationError(
            f"the decode graph drew token {token} and numpy draws {chosen} (row {row}, {way}): "
            f"{DO_NOT}"
        )
    expected = float(np.log(sampling.softmax(logits_V)[token]))
    apart = abs(log - expected) / scale
    if not apart <= TOLERANCE:
        raise VerificationError(
            f"the decode graph gives a token the log-probability {log:.4f} and numpy gives it "
            f"{expected:.4f}: {DO_NOT}"
        )
    return apart


def _windows(
    decoder: Session,
    network: Session,
    net: FrozenNet,
    ways: Sequence[Sampling],
    position: int,
    rng: np.random.Generator,
) -> Iterator[Step]:
    shape = net.topology.input
    assert isinstance(shape, TextInput)
    text_BT = random_windows(shape, len(ways), rng)
    feeds = {
        TOKENS: text_BT,
        interface.STEPS: np.array(STEPS),
        **sampling.asked_rows(ways, position),
    }
    found = decoder.run(feeds)
    text_BT = np.hstack([text_BT, found[DRAWN]])
    _check_state(found[NEXT], text_BT[:, STEPS:])
    for at in range(STEPS):
        window_BW = np.ascontiguousarray(text_BT[:, at : at + shape.window])
        logits_BV = network.run({TOKENS: window_BW})[LOGITS]
        everyone = np.ones(len(ways), bool)
        yield _step(found, at, logits_BV, window_BW.tolist(), everyone)


def _caches(
    decoder: Session,
    network: Session,
    net: Gpt2Net,
    ways: Sequence[Sampling],
    position: int,
    rng: np.random.Generator,
) -> Iterator[Step]:
    """Texts of all lengths; the first leaves room for as many tokens as a call draws, if any can.
    The newest token of each is not in the cache, which is random, as are the places after it.
    Of a text that is alone the last tokens are read at once, as many as there are, up to STEPS."""
    context, vocab_size = net.config.context, net.config.vocab_size
    length_B = rng.integers(1, context + 1, len(ways))
    length_B[0] = max(1, context - STEPS)
    text_BC = rng.integers(0, vocab_size, (len(ways), context))
    text_BC[np.arange(context) >= length_B[:, None]] = NO_TOKEN
    read = 1 if len(ways) > 1 else min(STEPS, int(length_B[0]))
    past_B, cache = (length_B - read).astype(np.int32), random_cache(net, len(ways), rng)
    feeds: Arrays = {
        TOKENS: text_BC,
        LENGTHS: past_B,
        READ: np.array(read),
        **sampling.asked_rows(ways, position),
    }
    found = decoder.run({**feeds, **cache})
    rows, steps = np.arange(len(ways)), found[DRAWN].shape[1]
    expected_BC = text_BC.copy()
    tokens_BS, free_B = text_BC[rows[:, None], past_B[:, None] + np.arange(read)], past_B + read
    for at in range(steps):
        logits_BV, cache = decode_step(network, tokens_BS, past_B, cache)
        yield _step(found, at, logits_BV, expected_BC.tolist(), free_B <= context)
        tokens_BS, past_B = found[DRAWN][:, at : at + 1], np.minimum(free_B, context - 1)
        expected_BC[rows, past_B] = tokens_BS[:, 0]
        free_B = free_B + 1
    _check_state(found[NEXT], expected_BC)


def _rows(net: Gpt2Net) -> int:
    """How many texts are decoded together; every step of a call gives their caches anew."""
    row_bytes = sum(array.nbytes for array in interface.of(net).empty(1).values())
    return max(2, MEMORY_BYTES // (row_bytes * (STEPS + 2)))


def _step(
    found: Arrays,
    at: int,
    logits_BV: NDArray[Any],
    seen: Sequence[Sequence[int]],
    valid_B: NDArray[np.bool_],
) -> Step:
    ids_BK, logs_BK = found[DRAWN], found[LOGS]
    return Step(logits_BV, seen, ids_BK[:, at], logs_BK[:, at], valid_B)


def _check_state(found: NDArray[Any], expected: NDArray[Any]) -> None:
    if not np.array_equal(found, expected):
        raise VerificationError(f"the decode graph loses its text between two calls: {DO_NOT}")
