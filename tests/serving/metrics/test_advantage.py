"""Ratios of paired times: their value, their interval, and what is not said of too few pairs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.metrics import advantage as module
from serving.metrics.advantage import (
    LAST_PAIRS,
    AdvantageCollector,
    Interval,
    Pair,
    Pairs,
    Times,
    advantage,
)


def pairs(count: int, factor: float, noise: float = 0.0, seed: int = 1) -> list[Pair]:
    """The baseline takes `factor` times as long as LuminaNet, give or take some noise."""
    rng = np.random.default_rng(seed)

    def times(scale: float) -> Times:
        return Times(*(float(scale * t) for t in rng.lognormal(0, noise, 3)))

    return [Pair(times(1.0), times(factor)) for _ in range(count)]


def unknown(found: Interval) -> bool:
    return all(map(math.isnan, found))


def test_the_ratio_is_the_baselines_time_over_that_of_luminanet() -> None:
    found = advantage(pairs(300, 1.5))
    for by_quantile in found.ratios.values():
        for interval in by_quantile.values():
            assert interval == pytest.approx((1.5, 1.5, 1.5))
    assert found.throughput == pytest.approx((1.5, 1.5, 1.5))
    assert found.samples == 300


@settings(max_examples=20)
@given(st.floats(0.2, 5), st.integers(0, 99))
def test_an_interval_holds_its_value_and_swaps_with_the_sides(factor: float, seed: int) -> None:
    some = pairs(60, factor, 0.3, seed)
    found = advantage(some)
    swapped = advantage([Pair(pair.baseline, pair.luminanet) for pair in some])
    for name in Times._fields:
        value, low, high = found.ratios[name][0.5]
        assert low <= high
        assert low * 0.8 <= value <= high * 1.25
        assert swapped.ratios[name][0.5].value == pytest.approx(1 / value)
        assert swapped.ratios[name][0.5].low == pytest.approx(1 / high, rel=1e-3)


def test_intervals_narrow_with_more_pairs_and_come_out_the_same_again() -> None:
    few, many = (advantage(pairs(n, 1.3, 0.4)) for n in (30, 900))
    assert advantage(pairs(900, 1.3, 0.4)) == many
    for name in Times._fields:
        wide, narrow = (found.ratios[name][0.5] for found in (few, many))
        assert narrow.high - narrow.low < (wide.high - wide.low) / 2
        assert many.ratios[name][0.5].low < 1.3 < many.ratios[name][0.5].high


def test_what_pairs_have_in_common_does_not_widen_an_interval() -> None:
    """A slow moment of the machine slows both sides: only a bootstrap of whole pairs knows it."""
    rng = np.random.default_rng(0)
    slow = rng.lognormal(0, 1.0, 400)
    together = [Pair(Times(s, s, s), Times(1.2 * s, 1.2 * s, 1.2 * s)) for s in slow.tolist()]
    apart = [Pair(a.luminanet, b.baseline) for a, b in zip(together, together[::-1], strict=True)]
    paired, unpaired = (advantage(some).throughput for some in (together, apart))
    assert paired == pytest.approx((1.2, 1.2, 1.2))
    assert unpaired.high - unpaired.low > 0.1


@pytest.mark.parametrize(
    ("count", "medians", "tails"), [(0, False, False), (19, False, False), (20, True, False)]
)
def test_too_few_pairs_say_nothing(count: int, medians: bool, tails: bool) -> None:
    found = advantage(pairs(count, 2.0))
    for by_quantile in found.ratios.values():
        assert unknown(by_quantile[0.5]) is not medians
        assert unknown(by_quantile[0.99]) is not tails
    assert unknown(found.throughput) is not medians
    assert found.samples == count


def test_a_p99_needs_200_pairs() -> None:
    for count, known in (199, False), (200, True):
        found = advantage(pairs(count, 2.0)).ratios["request_duration"][0.99]
        assert unknown(found) is not known


def test_only_the_last_pairs_count() -> None:
    kept = Pairs()
    for pair in [*pairs(500, 9.0), *pairs(LAST_PAIRS, 1.1)]:
        kept.add(pair)
    found = kept.advantage()
    assert found.samples == LAST_PAIRS
    assert found.ratios["request_duration"][0.5].value == pytest.approx(1.1)


def test_a_scrape_computes_only_when_there_is_something_new_and_not_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": 100.0}
    monkeypatch.setattr(module, "perf_counter", lambda: clock["now"])
    kept = Pairs()
    kept.add(pairs(1, 2.0)[0])
    first = kept.advantage()
    kept.add(pairs(1, 2.0)[0])
    assert kept.advantage() is first
    clock["now"] += module.REFRESH_S
    second = kept.advantage()
    assert (first.samples, second.samples) == (1, 2)
    clock["now"] += module.REFRESH_S
    assert kept.advantage() is second


def test_every_family_has_all_its_labels_from_the_start() -> None:
    found = {family.name: family for family in AdvantageCollector(Pairs()).collect()}
    assert set(found) == {
        *(f"luminanet_advantage_ratio{end}" for end in ("", "_low", "_high")),
        *(f"luminanet_throughput_ratio{end}" for end in ("", "_low", "_high")),
        "luminanet_advantage_samples",
        "luminanet_throughput_samples",
    }
    labels = [sample.labels for sample in found["luminanet_advantage_ratio"].samples]
    assert len(labels) == 6
    assert {label["quantile"] for label in labels} == {"0.5", "0.99"}
    assert {label["quantity"] for label in labels} == set(Times._fields)
    assert [s.value for s in found["luminanet_advantage_samples"].samples] == [0, 0, 0]
