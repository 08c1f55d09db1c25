"""The filters keep what their definition says, and the counted random numbers look random."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from luminanet.reference import NO_TOKEN
from luminanet.sampling import (
    Sampling,
    blocks,
    choose,
    draw,
    kept,
    log_softmax,
    most_likely,
    penalise,
    softmax,
    uniform,
    words,
)

LOGITS = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=30)
"""Few distinct values, so that ties are common."""
WEIGHTS = LOGITS.map(lambda row: softmax(np.array(row)))
SEEDS = st.integers(0, 2**63 - 1)


def chi_square(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """In standard deviations above what chance gives."""
    freedom = len(counts) - 1
    found = float((np.square(counts - expected) / expected).sum())
    return (found - freedom) / math.sqrt(2 * freedom)


@given(WEIGHTS, st.integers(1, 40))
def test_top_k_keeps_what_has_fewer_than_k_above_it(weights: NDArray[np.float64], k: int) -> None:
    expected = [sum(other > weight for other in weights) < k for weight in weights]
    assert kept(weights, Sampling(top_k=k)).tolist() == expected


@given(WEIGHTS, st.integers(0, 40), st.floats(0.01, 0.99))
def test_top_p_keeps_what_has_less_than_p_of_what_top_k_keeps_above_it(
    weights: NDArray[np.float64], k: int, p: float
) -> None:
    by_k = weights[kept(weights, Sampling(top_k=k))]
    found = kept(weights, Sampling(top_k=k, top_p=p))
    for weight, stays in zip(weights, found, strict=True):
        above = by_k[by_k > weight].sum() / by_k.sum()
        if abs(above - p) > 1e-9:
            assert stays == (above < p and weight >= by_k.min())


@given(WEIGHTS, st.floats(0, 1))
def test_min_p_keeps_what_reaches_a_share_of_the_highest(
    weights: NDArray[np.float64], p: float
) -> None:
    assert kept(weights, Sampling(min_p=p)).tolist() == (weights >= p * weights.max()).tolist()


@given(WEIGHTS, st.integers(0, 5), st.floats(0, 1), st.floats(0, 1))
def test_the_highest_weight_is_always_kept(
    weights: NDArray[np.float64], k: int, top_p: float, min_p: float
) -> None:
    assert kept(weights, Sampling(top_k=k, top_p=top_p, min_p=min_p))[weights.argmax()]


@given(WEIGHTS, SEEDS, st.integers(0, 5), st.floats(0.05, 1))
def test_only_kept_tokens_are_drawn(
    weights: NDArray[np.float64], seed: int, k: int, p: float
) -> None:
    may = kept(weights, Sampling(top_k=k, top_p=p))
    assert may[draw(weights, may, seed, position=3)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(top_k=4),
        Sampling(top_p=0.6),
        Sampling(min_p=0.3),
        Sampling(0.5, 7, 0.9),
    ],
)
def test_the_draw_follows_the_weights_that_are_kept(sampling: Sampling) -> None:
    logits = np.random.default_rng(5).normal(size=20)
    weights = softmax(logits / sampling.temperature)
    may = kept(weights, sampling)
    drawn = Counter(draw(weights, may, 11, position) for position in range(6000))
    expected = weights[may] / weights[may].sum() * 6000
    counts = np.array([drawn[int(token)] for token in np.flatnonzero(may)], float)
    assert counts.sum() == 6000
    assert chi_square(counts, expected) < 4


@given(LOGITS, SEEDS)
def test_temperature_0_takes_the_highest_logit_and_the_lower_id_on_a_tie(
    logits: list[float], seed: int
) -> None:
    found = choose(np.array(logits), [], Sampling(0, 3, 0.5, seed=seed), 7)
    assert found.id == logits.index(max(logits))


def test_the_log_probability_is_that_of_the_plain_softmax() -> None:
    logits = np.log([0.2, 0.5, 0.3])
    for sampling in (Sampling(0), Sampling(3.0, repetition_penalty=2.0), Sampling(top_k=1)):
        token = choose(logits, [1], sampling, 0)
        assert token.log_probability == pytest.approx(logits[token.id])


def test_a_penalty_divides_positive_logits_and_multiplies_negative_ones_once_each() -> None:
    logits = np.array([2.0, -2.0, 3.0, -3.0])
    assert penalise(logits, [NO_TOKEN, 0, 1, 1, 0], 2.0).tolist() == [1, -4, 3, -3]
    assert penalise(logits, [NO_TOKEN], 2.0).tolist() == logits.tolist()


@given(LOGITS, st.dictionaries(st.integers(0, 29), st.integers(-100, 100)), SEEDS)
def test_a_bias_draws_as_from_logits_with_it_and_tells_those_without(
    logits: list[float], biases: dict[int, int], seed: int
) -> None:
    biases = {token: bias for token, bias in biases.items() if token < len(logits)}
    moved = np.array([logit + biases.get(token, 0) for token, logit in enumerate(logits)])
    how = Sampling(0.7, 5, 0.9, 0.05, 1.3, seed)
    found = choose(np.array(logits), [0], replace(how, logit_bias=biases), 3)
    assert found.id == choose(moved, [0], how, 3).id
    assert found.log_probability == pytest.approx(log_softmax(np.array(logits))[found.id])


@given(LOGITS, SEEDS, st.sampled_from([0.0, 1.0]))
def test_the_end_is_not_drawn_before_min_tokens(
    logits: list[float], seed: int, temperature: float
) -> None:
    row = np.array([*logits, 50.0])
    how = Sampling(temperature, seed=seed, min_tokens=3, end_id=len(logits))
    assert [choose(row, [], how, at).id == len(logits) for at in range(5)] == [False] * 3 + [
        True
    ] * 2


@given(LOGITS, st.integers(0, 40))
def test_the_most_likely_come_in_order_the_lower_id_first_on_a_tie(
    logits: list[float], count: int
) -> None:
    logs = log_softmax(np.array(logits))
    expected = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:count]
    found = most_likely(logs, count)
    assert [token.id for token in found] == expected
    assert [token.log_probability for token in found] == [logs[token] for token in expected]


def test_a_log_probability_may_be_of_less_than_any_number() -> None:
    assert log_softmax(np.array([0.0, -5000.0])).tolist() == [0, -5000]


@pytest.mark.parametrize("bad", [[0, np.nan, 1], [0, np.inf, 1], [-np.inf] * 3])
@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(), Sampling(1, 2, 0.5)])
def test_logits_that_name_no_token_give_none(bad: list[float], sampling: Sampling) -> None:
    token = choose(np.array(bad), [], sampling, 0)
    assert token.id == NO_TOKEN
    assert math.isnan(token.log_probability)


def test_impossible_tokens_are_never_chosen() -> None:
    logits = np.full(9, -np.inf)
    logits[4] = -1000
    for sampling in (Sampling(0), Sampling(), Sampling(1, 3), Sampling(1, 0, 0.5)):
        assert {choose(logits, [], sampling, at).id for at in range(30)} == {4}


@pytest.mark.parametrize(("vocab_size", "shape"), [(1, (1, 1)), (50, (7, 8)), (4096, (64, 64))])
def test_blocks_hold_all_tokens(vocab_size: int, shape: tuple[int, int]) -> None:
    assert blocks(vocab_size) == shape


# ---------------------------------------------------------------------- random numbers


def test_the_words_never_change() -> None:
    """Texts of one seed stay the same from version to version."""
    assert words(1, 2, 0, 2).tolist() == [0xD300DEDE047C6C7B, 0x5B996A6142185CCF]
    assert words(2**63, 9, 3, 4).tolist() == words(-(2**63), 9, 3, 4).tolist()


@pytest.mark.parametrize("seed", [0, 1, 123456789, 2**62])
def test_numbers_are_uniform_along_indices_positions_attempts_and_seeds(seed: int) -> None:
    along = {
        "indices": uniform(seed, 3, 0, 20_000),
        "positions": np.array([uniform(seed, at, 0, 1)[0] for at in range(20_000)]),
        "attempts": np.array([uniform(seed, 5, at, 1)[0] for at in range(20_000)]),
        "seeds": np.array([uniform(seed + at, 5, 0, 1)[0] for at in range(20_000)]),
    }
    for name, numbers in along.items():
        assert numbers.min() > 0, name
        assert numbers.max() < 1, name
        counts, _ = np.histogram(numbers, 200, (0, 1))
        assert chi_square(counts.astype(float), np.full(200, 100.0)) < 4, name
        low_bits = (numbers * 2**23).astype(int) % 64
        found = np.bincount(low_bits, minlength=64).astype(float)
        assert chi_square(found, np.full(64, 20_000 / 64)) < 4, name


def test_neighbours_in_seed_position_attempt_and_index_are_independent() -> None:
    first = np.concatenate([uniform(seed, 7, 0, 128) for seed in range(200)])
    second = {
        "seed": np.concatenate([uniform(seed + 1, 7, 0, 128) for seed in range(200)]),
        "position": np.concatenate([uniform(seed, 8, 0, 128) for seed in range(200)]),
        "attempt": np.concatenate([uniform(seed, 7, 1, 128) for seed in range(200)]),
        "index": np.roll(first, 1),
    }
    for name, numbers in second.items():
        counts, _, _ = np.histogram2d(first, numbers, 16, ((0, 1), (0, 1)))
        assert chi_square(counts.ravel(), np.full(256, len(first) / 256)) < 4, name
