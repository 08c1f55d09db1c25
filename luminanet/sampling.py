"""Logits -> one token: the oracle of the sampler that runs inside the decode graphs, and itself the
sampler of what these do not know: logit_bias and min_tokens.

Everything depends on one row alone: its logits, its parameters, its seed and how many tokens its
text has drawn before. So the same seed gives the same text in any batch, at any place in it, and
however many tokens are decoded in one call. Exact semantics, in this order:

0. logit_bias is added to the logits of its tokens, and before min_tokens are drawn that of end_id
   is -inf.
1. repetition penalty: of every token in the window (or past) that the model holds, a positive
   logit is divided by it and a negative one multiplied (Hugging Face's rule; 1: no penalty).
2. temperature: logits / temperature. 0 (or less) is greedy: the highest logit, the lower token id
   on a tie; what follows is then without effect. Others count as LOWEST_TEMPERATURE at least.
3. weights: the softmax.
4. a token is kept when all of these hold; equal weights are always treated alike, and the
   highest weight is always kept
     top_k   fewer than top_k tokens have more weight (0: off)
     top_p   the tokens with more weight have together less than top_p of the weight that top_k
             keeps (1: off)
     min_p   its weight is at least min_p times the highest (0: off)
5. the draw: an exponential race, first between blocks of neighbouring ids with the weights' sums,
   then inside the block that won: argmax weight / -log(u), with the uniform numbers u of `uniform`.
   This draws from the weights (Gumbel-max, written without the outer logarithm). A winner that is
   not kept is refused together with all that weigh less or the same, and the race is run again
   with new numbers: exactly the distribution of the kept weights, and no sorting.

Uniform numbers are counted, not drawn: u = (h + 1/2) / 2^23, h the highest 23 bits of a 64-bit
word that is a function of (seed, position, attempt, index). `attempt` counts the races run for
this token, `index` is the number of a block, or blocks + the place inside a block:

    x = (seed * SEED) xor ((position << 32 | attempt << 16 | index) * COUNTER)      modulo 2^64
    x = (x xor x >> 30) * MIX_1;  x = (x xor x >> 27) * MIX_2                       (splitmix64)

Logits that name no token (a NaN, +inf, or nothing but -inf) give NO_TOKEN and a log-probability
of NaN. Shape legend: V vocabulary, N blocks, S size of a block, J = N + S.

Sources: Gumbel-max trick, exponential clocks (Yellott 1977; Maddison et al. 2014); splitmix64
(Steele, Lea, Flood 2014); repetition penalty (Keskar et al. 2019); min-p (Nguyen et al. 2024).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from luminanet.reference import NO_TOKEN

Array = NDArray[np.float64]

SEED = 0xD1342543DE82EF95
COUNTER = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
UNIFORM_BITS = 23
ATTEMPT_SHIFT = 16
POSITION_SHIFT = 32
LOWEST_TEMPERATURE = 1e-6
INPUTS: Mapping[str, DTypeLike] = {
    "temperature": np.float32,
    "top_k": np.int64,
    "top_p": np.float32,
    "min_p": np.float32,
    "repetition_penalty": np.float32,
    "seeds": np.int64,
    "positions": np.int64,
}
"""The inputs of the sampler in a graph, each [batch]; `asked` gives them for one row."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose a token. `seed` is any integer, of which 64 bits count; `logit_bias` is by
    token id; `end_id` is the token that `min_tokens` holds back."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    end_id: int = NO_TOKEN

    @property
    def in_graphs(self) -> bool:
        """Whether the sampler inside the decode graphs knows all that is asked for."""
        return not (self.logit_bias or self.min_tokens)


def asked(sampling: Sampling, position: int = 0) -> dict[str, float]:
    """The value of every one of INPUTS for a row whose text has drawn `position` tokens; the rest
    of `sampling` is not for graphs."""
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "seeds": sampling.seed,
        "positions": position,
    }


def asked_rows(ways: Sequence[Sampling], position: int = 0) -> dict[str, NDArray[Any]]:
    """The same for a batch: INPUTS as arrays, a row for each of `ways`."""
    rows = [asked(way, position) for way in ways]
    return {name: np.array([row[name] for row in rows], d) for name, d in INPUTS.items()}


class Blocks(NamedTuple):
    """How token ids fall into blocks: id = block * size + place."""

    number: int
    size: int

    @property
    def indices(self) -> int:
        """J: uniform numbers of one race."""
        return self.number + self.size


class Token(NamedTuple):
    """A chosen token, and the natural logarithm of its probability: the softmax of the logits as
    they come, at temperature 1 and before any penalty."""

    id: int
    log_probability: float


def blocks(vocab_size: int) -> Blocks:
    """About as many blocks as a block is long, whose size is a power of two."""
    size = 1 << ((vocab_size - 1).bit_length() + 1) // 2
    return Blocks(-(-vocab_size // size), size)


def choose(logits_V: NDArray[Any], seen: Sequence[int], sampling: Sampling, position: int) -> Token:
    """The next token of a text that has drawn `position` tokens; `seen` may hold NO_TOKEN."""
    logits_V = logits_V.astype(np.float64)
    if not np.isfinite(logits_V.max()):
        return Token(NO_TOKEN, math.nan)
    biased_V = bias(logits_V, sampling, position)
    penalised_V = penalise(biased_V, seen, sampling.repetition_penalty)
    if sampling.temperature <= 0:
        chosen = int(penalised_V.argmax())
    else:
        weights_V = softmax(penalised_V / max(sampling.temperature, LOWEST_TEMPERATURE))
        chosen = draw(weights_V, kept(weights_V, sampling), sampling.seed, position)
    return Token(chosen, float(log_softmax(logits_V)[chosen]))


def most_likely(logs_V: Array, count: int) -> tuple[Token, ...]:
    """The tokens of highest log-probability, the lower id first on a tie; `count` of them, or all
    where there are fewer."""
    if not count:
        return ()
    count = min(count, len(logs_V))
    ids = np.flatnonzero(logs_V >= np.partition(logs_V, -count)[-count])
    best = ids[np.argsort(-logs_V[ids], kind="stable")][:count]
    return tuple(map(Token, best.tolist(), logs_V[best].tolist()))


def bias(logits_V: Array, sampling: Sampling, position: int) -> Array:
    """Adds logit_bias, and holds the end of the text back before min_tokens."""
    out_V = logits_V.copy()
    out_V[list(sampling.logit_bias)] += list(sampling.logit_bias.values())
    if position < sampling.min_tokens and sampling.end_id != NO_TOKEN:
        out_V[sampling.end_id] = -np.inf
    return out_V


def penalise(logits_V: Array, seen: Sequence[int], penalty: float) -> Array:
    """Makes the tokens `seen` less likely (penalty above 1), each once."""
    ids = [token for token in set(seen) if token != NO_TOKEN]
    out_V = logits_V.copy()
    out_V[ids] = np.where(logits_V[ids] > 0, logits_V[ids] / penalty, logits_V[ids] * penalty)
    return out_V


def softmax(logits_V: Array) -> Array:
    weights_V = np.exp(logits_V - logits_V.max())
    return np.asarray(weights_V / weights_V.sum())


def log_softmax(logits_V: Array) -> Array:
    """The logarithm of the softmax, exact where that is too small for a number of its own."""
    below_V = logits_V - logits_V.max()
    return np.asarray(below_V - np.log(np.exp(below_V).sum()))


def kept(weights_V: Array, sampling: Sampling) -> NDArray[np.bool_]:
    """Which tokens may be drawn, [V]: those that weigh no less than the lightest that all keep."""
    least = sampling.min_p * weights_V.max()
    if sampling.top_k > 0 or sampling.top_p < 1:
        falling = np.sort(weights_V)[::-1]
        by_k = falling[min(sampling.top_k or len(falling), len(falling)) - 1]
        least = max(least, by_k)
        if sampling.top_p < 1:
            limit = sampling.top_p * falling[falling >= by_k].sum()
            reached = np.searchsorted(falling.cumsum(), limit)
            least = max(least, falling[min(reached, len(falling) - 1)])
    return np.asarray(weights_V >= least)


def draw(weights_V: Array, kept_V: NDArray[np.bool_], seed: int, position: int) -> int:
    """A token in proportion to its weight among those that are kept."""
    count, size = shape = blocks(len(weights_V))
    left_NS = np.zeros((count, size))
    left_NS.ravel()[: len(weights_V)] = weights_V
    for attempt in range(len(weights_V)):
        clocks_J = -np.log(uniform(seed, position, attempt, shape.indices))
        block = int((left_NS.sum(1) / clocks_J[:count]).argmax())
        place = int((left_NS[block] / clocks_J[count:]).argmax())
        token = block * size + place
        if kept_V[token]:
            return token
        left_NS = np.where(left_NS > left_NS[block, place], left_NS, 0.0)
    raise AssertionError("the token of highest weight is kept")


def uniform(seed: int, position: int, attempt: int, count: int) -> Array:
    """The numbers of one race, [J], each in the open interval (0, 1)."""
    words_J = words(seed, position, attempt, count)
    return np.asarray((words_J >> np.uint64(64 - UNIFORM_BITS)) + 0.5) / (1 << UNIFORM_BITS)


def words(seed: int, position: int, attempt: int, count: int) -> NDArray[np.uint64]:
    """The 64-bit words behind `uniform`, [J]."""
    first = position << POSITION_SHIFT | attempt << ATTEMPT_SHIFT
    counter_J = np.arange(first, first + count, dtype=np.uint64)
    x_J = np.uint64(seed * SEED % 2**64) ^ (counter_J * np.uint64(COUNTER))
    x_J = (x_J ^ (x_J >> np.uint64(30))) * np.uint64(MIX_1)
    return np.asarray((x_J ^ (x_J >> np.uint64(27))) * np.uint64(MIX_2))
