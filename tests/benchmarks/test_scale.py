"""Traffic -> replicas, memory and cost."""

import json
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import Plan, Replica, Traffic, breaks_first, measured, newest, plan
from loadtest.workload import MAX_TOKENS
from luminanet.errors import ConfigError, DataError

REPLICA = Replica("luminanet", 1000.0, 2.0, 2, 0.5, 2**28, True, "")


def cell(rate: float, within: float) -> dict[str, object]:
    return {
        "model": "luminanet",
        "rate": rate,
        "within": within,
        "tokens_per_second": 50 * rate,
        "server_cores": rate / 100,
        "server_peak_bytes": int(rate),
        "seconds": {"end to end": [0.1, 0.2, 0.3, 0.4]},
    }


def write(path: Path, *cells: dict[str, object]) -> Path:
    path.write_text(json.dumps({"provenance": "`x` on 2 cores of y", "cells": cells}), "utf-8")
    return path


def test_a_replica_is_what_was_measured_up_to_the_knee(tmp_path: Path) -> None:
    file = write(tmp_path / "figures.json", cell(40, 0.5), cell(10, 1.0), cell(20, 0.96))
    found = measured(file, "luminanet")
    assert (found.tokens_per_second, found.cores, found.busy_cores) == (1000, 2, 0.2)
    assert found.in_flight == pytest.approx(20 * 0.2)
    assert found.core_seconds == pytest.approx(0.2)
    assert found.peak_bytes == 40
    assert found.is_limit


def test_a_rate_above_one_that_was_missed_does_not_count(tmp_path: Path) -> None:
    file = write(tmp_path / "figures.json", cell(10, 1.0), cell(20, 0.5), cell(40, 1.0))
    assert measured(file, "luminanet").tokens_per_second == 500


def test_a_highest_rate_that_was_kept_is_no_limit(tmp_path: Path) -> None:
    assert not measured(write(tmp_path / "f.json", cell(10, 1.0)), "luminanet").is_limit


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"provenance": "", "cells": [1]}'])
def test_figures_that_are_none_are_refused_with_the_command(tmp_path: Path, text: str) -> None:
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(DataError, match=r"benchmarks\.load"):
        measured(tmp_path / "figures.json", "luminanet")
    with pytest.raises(DataError, match=r"benchmarks\.load"):
        newest(tmp_path / "nothing")


def test_a_model_that_kept_no_rate_carries_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kept"):
        measured(write(tmp_path / "figures.json", cell(10, 0.2)), "luminanet")


@pytest.mark.parametrize("zones", [2, 3, 4])
@pytest.mark.parametrize("rate", [0.1, 15, 16, 100, 12345])
def test_what_is_left_when_a_zone_is_lost_carries_all(zones: int, rate: float) -> None:
    found = plan(Traffic(rate, MAX_TOKENS), REPLICA, zones)
    left = found.replicas * (zones - 1) // zones
    assert left >= found.needed
    assert found.needed * REPLICA.tokens_per_second >= rate * MAX_TOKENS
    assert (found.needed - 1) * REPLICA.tokens_per_second < rate * MAX_TOKENS
    assert (found.cores, found.memory_bytes) == (2 * found.replicas, 2**28 * found.replicas)


def test_a_short_answer_counts_as_a_measured_one_and_a_long_one_by_its_tokens() -> None:
    short, usual, long = (
        plan(Traffic(1000, tokens), REPLICA, 1).needed for tokens in (1, MAX_TOKENS, 2 * MAX_TOKENS)
    )
    assert short == usual
    assert long == 2 * usual


def test_what_breaks_first_changes_with_size() -> None:
    sizes = (Plan(n, 3 * n, 0, 0) for n in (1, 5, 50, 100_000))
    assert len({breaks_first(size, 20) for size in sizes}) == 4


@pytest.mark.parametrize(("rate", "tokens"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0)])
def test_traffic_that_is_none_is_refused(rate: float, tokens: int) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Traffic(rate, tokens)


def test_a_price_adds_what_an_hour_costs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--requests-per-second", "500", "--zones", "1"]
    assert scale.main(words) == 0
    assert "an hour" not in capsys.readouterr().out
    assert scale.main([*words, "--core-hour", "1"]) == 0
    header, _, row = capsys.readouterr().out.splitlines()[:3]
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert float(cells["an hour"]) == float(cells["cores"])
    assert scale.main([*words, "--tokens", "0"]) == 2


def test_the_page_has_the_table_that_the_command_writes_of_some_figures() -> None:
    page = scale.PAGE.read_text("utf-8")
    traffics = [Traffic(rate, MAX_TOKENS) for rate in scale.RATES]
    for figures in scale.LOADS.glob("*/figures.json"):
        both = [measured(figures, model) for model in ("luminanet", "gpt2")]
        if f"{scale.report(traffics, both[0], 3, None)}\n{scale.basis(both, 3)}" in page:
            return
    pytest.fail("write it anew: python -m benchmarks.scale --write")
