"""Logits -> one token by sorting, in numpy: what the sampler in the graph is compared with.

Pure functions; the result depends on one row's logits and its own draw.

Of a Sampling, temperature, top_k and top_p are done here. Exact semantics, in this order, all in
float64:

1. temperature: logits / temperature. Temperature 0 is greedy: the highest logit, the lower token
   id on a tie; top_k, top_p and the draw are then without effect.
2. top_k: the k highest logits stay (0: all). Of equal logits at the border the lower ids stay.
3. softmax over what stays.
4. top_p: of what stays, sorted by falling probability, the shortest run whose sum reaches top_p
   times the total; at least one. Of equal probabilities at the border the lower ids stay.
5. the draw u in [0, 1): the first token, in the order of ids, whose cumulative probability
   exceeds u times the total.

Shape legend: V vocabulary, K the candidates that are left.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.sampling import Sampling

Logits = NDArray[np.float32]
HEAD = 256


def choose(logits_V: Logits, sampling: Sampling, draw: float) -> int:
    """The next token id. Raises FloatingPointError when the logits name no token (NaN, inf)."""
    if not np.isfinite(logits_V.max()):
        raise FloatingPointError("the model's logits are not finite")
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    ids_K, weights_K = candidates(logits_V, sampling)
    cumulative_K = weights_K.cumsum()
    place = int(cumulative_K.searchsorted(draw * cumulative_K[-1], side="right"))
    return int(ids_K[min(place, len(ids_K) - 1)])


def candidates(
    logits_V: Logits, sampling: Sampling
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The ids that stay, rising, and their weights (proportional to probabilities, best is 1)."""
    if 0 < sampling.top_k < len(logits_V):
        ids_K = highest(logits_V, sampling.top_k)
        scores_K = logits_V[ids_K].astype(np.float64)
    else:
        ids_K = np.arange(len(logits_V))
        scores_K = logits_V.astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature: everything but the best is -inf
        weights_K = np.exp((scores_K - scores_K.max()) / sampling.temperature)
    if sampling.top_p < 1:
        kept = nucleus(weights_K, sampling.top_p)
        ids_K, weights_K = ids_K[kept], weights_K[kept]
    return ids_K, weights_K


def highest(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """The places of the `count` highest values, rising; of equals at the border the first ones."""
    rank = len(values) - count
    return _down_to(values, np.partition(values, rank)[rank], count)


def nucleus(weights_K: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """The places of the shortest run of highest weights whose sum reaches top_p of the total."""
    goal = top_p * weights_K.sum()
    length = min(HEAD, len(weights_K))
    while True:  # a short head is nearly always enough, and much cheaper to sort than all
        head = np.partition(weights_K, len(weights_K) - length)[len(weights_K) - length :]
        falling = np.sort(head)[::-1]
        cumulative = falling.cumsum()
        if cumulative[-1] >= goal or length == len(weights_K):
            break
        length = min(8 * length, len(weights_K))
    count = min(int(cumulative.searchsorted(goal)) + 1, length)
    return _down_to(weights_K, falling[count - 1], count)


def _down_to(values: NDArray[Any], border: Any, count: int) -> NDArray[np.intp]:
    """The places above `border`, and of those equal to it the first ones, `count` in all."""
    kept = values > border
    ties = np.flatnonzero(values == border)[: count - np.count_nonzero(kept)]
    kept[ties] = True
    return np.flatnonzero(kept)
