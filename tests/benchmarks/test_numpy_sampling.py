"""The filters keep exactly what their definition says, and the draw follows the weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.numpy_sampling import HEAD, candidates, choose, highest, nucleus
from luminanet.sampling import Sampling

LOGITS = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=30)
"""Few distinct values, so that ties are common."""
ROWS = LOGITS.map(lambda row: np.array(row, np.float32))
TEMPERATURES = st.floats(0.05, 5)


def ranking(values: NDArray[np.float64] | NDArray[np.float32]) -> list[int]:
    """Places by falling value; equals by rising place."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


@given(ROWS, st.floats(0, 1, exclude_max=True))
def test_temperature_0_takes_the_highest_logit_and_the_lower_id_on_a_tie(
    logits: NDArray[np.float32], draw: float
) -> None:
    assert choose(logits, Sampling(0, 3, 0.5), draw) == ranking(logits)[0]


@given(ROWS, st.floats(0, 1, exclude_max=True))
def test_a_tiny_temperature_still_chooses_among_the_highest(
    logits: NDArray[np.float32], draw: float
) -> None:
    assert logits[choose(logits, Sampling(5e-324), draw)] == logits.max()


@given(ROWS, st.integers(1, 40), TEMPERATURES)
def test_top_k_keeps_the_k_highest_and_the_lower_ids_of_equals(
    logits: NDArray[np.float32], k: int, temperature: float
) -> None:
    ids, _ = candidates(logits, Sampling(temperature, k))
    assert ids.tolist() == sorted(ranking(logits)[:k])


@given(ROWS, TEMPERATURES)
def test_without_filters_the_weights_are_the_softmax(
    logits: NDArray[np.float32], temperature: float
) -> None:
    ids, weights = candidates(logits, Sampling(temperature))
    expected = np.exp(logits.astype(float) / temperature)
    assert ids.tolist() == list(range(len(logits)))
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum())


@given(ROWS, TEMPERATURES, st.integers(0, 40), st.floats(0.01, 0.999))
def test_top_p_keeps_the_shortest_run_that_reaches_p_of_what_top_k_left(
    logits: NDArray[np.float32], temperature: float, k: int, p: float
) -> None:
    left, weights = candidates(logits, Sampling(temperature, k))
    kept, _ = candidates(logits, Sampling(temperature, k, p))
    run = ranking(weights)[: len(kept)]
    assert sorted(left[run].tolist()) == kept.tolist()
    reached = weights[run].sum() / weights.sum()
    assert reached >= p - 1e-12
    assert len(run) == 1 or reached - weights[run[-1]] / weights.sum() < p + 1e-12


@given(st.integers(0, 2**32), st.floats(0.01, 0.9999))
def test_top_p_is_exact_when_more_than_a_head_of_tokens_is_needed(seed: int, p: float) -> None:
    weights = np.random.default_rng(seed).random(8 * HEAD + 7)
    falling = np.sort(weights)[::-1].cumsum()
    expected = int(np.searchsorted(falling, p * weights.sum())) + 1
    assert nucleus(weights, p).tolist() == sorted(ranking(weights)[:expected])


def test_temperature_comes_before_top_p() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    assert candidates(logits, Sampling(1.0, 0, 0.65))[0].tolist() == [0, 1]
    assert candidates(logits, Sampling(0.5, 0, 0.65))[0].tolist() == [0]


def test_top_k_comes_before_top_p() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    assert candidates(logits, Sampling(1.0, 0, 0.75))[0].tolist() == [0, 1, 2]
    assert candidates(logits, Sampling(1.0, 2, 0.5))[0].tolist() == [0]


@given(ROWS, TEMPERATURES)
def test_the_draw_follows_the_weights(logits: NDArray[np.float32], temperature: float) -> None:
    sampling = Sampling(temperature)
    ids, weights = candidates(logits, sampling)
    edges = np.concatenate([[0], weights.cumsum()]) / weights.sum()
    for token, low, high in zip(ids, edges[:-1], edges[1:], strict=True):
        if high - low > 1e-9:
            assert choose(logits, sampling, (low + high) / 2) == token


def test_a_draw_next_to_1_takes_a_token_with_weight() -> None:
    logits = np.array([1, 0, -np.inf, -np.inf], np.float32)
    assert choose(logits, Sampling(1.0), np.nextafter(1, 0)) == 1


def test_impossible_tokens_are_never_chosen() -> None:
    logits = np.full(9, -np.inf, np.float32)
    logits[4] = -1000
    for sampling in (Sampling(0), Sampling(1), Sampling(1, 3), Sampling(1, 0, 0.5)):
        assert {choose(logits, sampling, u) for u in (0.0, 0.5, 0.999)} == {4}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "sampling", [Sampling(0), Sampling(1), Sampling(1, 2), Sampling(1, 0, 0.5)]
)
def test_logits_that_are_not_finite_are_refused(bad: float, sampling: Sampling) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        choose(np.array([0, bad, 1, 2], np.float32), sampling, 0.5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_highest_takes_exactly_as_many_as_asked(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    array = np.array(values, float)
    assert highest(array, count).tolist() == sorted(ranking(array)[:count])
