"""The tuning of both sides: runs that are done once, and the page of all tries."""

import json
import signal
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.tinystories import tuning
from benchmarks.tinystories.tries import GPT2, LUMINANET, TRIES, Tried, Try, mended
from benchmarks.tinystories.tuned import by_width, gains, optimum, page, power
from tests.datasets import write_stories
from training.config import EvolutionConfig
from training.data import batches
from training.data.batches import Batch
from training.presets import TEXT_PRESETS

torch.set_num_threads(1)
TINY = (
    Try(GPT2, 32, 1e-3, steps=2),
    Try(GPT2, 32, 2e-3, steps=2),
    Try(LUMINANET, 80, 2e-3, steps=2),
)
HARDLY_EVOLVING = TEXT_PRESETS[LUMINANET].having(evolution=EvolutionConfig(events=1))


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a tuning of three tiny runs on made-up stories."""
    monkeypatch.setattr(tuning, "TRIES", TINY)
    monkeypatch.setitem(TEXT_PRESETS, LUMINANET, HARDLY_EVOLVING)
    write_stories(tmp_path / "data", train=400)
    folders = {"--data": "data", "--runs": "runs", "--report": "report"}
    return [word for name, folder in folders.items() for word in (name, str(tmp_path / folder))]


def figures(tmp_path: Path) -> list[dict[str, Any]]:
    raw: dict[str, Any] = json.loads((tmp_path / "report/tuning.json").read_text())
    return list(raw["tries"])


def test_every_try_is_run_once_and_all_are_on_the_page(words: list[str], tmp_path: Path) -> None:
    assert tuning.main(words) == 0
    first = figures(tmp_path)
    assert [Tried.from_dict(raw).what for raw in first] == list(TINY)
    shown = (tmp_path / "report/tuning.md").read_text()
    assert shown.count("| GPT-2 | 32 |") == 2
    assert shown.count("| LuminaNet | 80 |") == 1
    assert "seed 0" in shown
    assert tuning.main(words) == 0
    assert figures(tmp_path) == first


def test_a_part_of_the_runs_may_be_done_now_and_the_rest_later(
    words: list[str], tmp_path: Path
) -> None:
    assert tuning.main([*words, "--most", "1"]) == 0
    assert len(figures(tmp_path)) == 1
    assert tuning.main([*words, "--only", f"{LUMINANET}-*"]) == 0
    done = [Tried.from_dict(raw).what for raw in figures(tmp_path)]
    assert done == [TINY[0], TINY[2]]
    assert tuning.main(words) == 0
    assert [Tried.from_dict(raw).what for raw in figures(tmp_path)] == [*done, TINY[1]]


def test_an_interrupted_try_resumes_and_ends_as_if_it_had_not_been(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = batches.TextSource.batch

    def interrupting(self: batches.TextSource, step: int) -> Batch:
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, step)

    more = ["--only", TINY[0].name]
    with monkeypatch.context() as patch:
        patch.setattr(batches.TextSource, "batch", interrupting)
        assert tuning.main([*words, *more]) == 128 + signal.SIGTERM
    assert not (tmp_path / "report/tuning.json").exists()
    assert tuning.main([*words, *more]) == 0
    again = [*words, *more, "--runs", str(tmp_path / "again"), "--report", str(tmp_path / "whole")]
    assert tuning.main(again) == 0
    whole = json.loads((tmp_path / "whole/tuning.json").read_text())["tries"]
    assert figures(tmp_path)[0]["loss"] == whole[0]["loss"]


def test_all_runs_share_one_file_of_tokens(words: list[str], tmp_path: Path) -> None:
    assert tuning.main([*words, "--only", f"{GPT2}-*"]) == 0
    assert len(list((tmp_path / "runs").rglob("tokens.bin"))) == 1


def test_a_pattern_without_a_try_is_a_clear_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuning.main([*words, "--only", "alexnet*"]) == 2
    assert "no try is named like 'alexnet*'" in capsys.readouterr().err


def test_figures_of_an_earlier_version_with_fewer_options_are_still_known(
    words: list[str], tmp_path: Path
) -> None:
    assert tuning.main([*words, "--most", "1"]) == 0
    raw = figures(tmp_path)
    del raw[0]["what"]["deviation"]
    (tmp_path / "report/tuning.json").write_text(json.dumps({"tries": raw}))
    assert tuning.main([*words, "--most", "1"]) == 0
    assert len(figures(tmp_path)) == 2


def test_every_try_of_the_list_is_a_valid_run_with_a_name_of_its_own() -> None:
    assert len({what.name for what in TRIES}) == len(TRIES)
    for what in TRIES:
        config = what.config()
        assert (config.learning_rate, config.steps, config.teacher) == (what.rate, what.steps, "")


def test_luminanet_gets_no_more_tries_than_its_baseline() -> None:
    ours = sum(what.preset != GPT2 for what in TRIES)
    assert ours <= len(TRIES) - ours


# ---------------------------------------------------------------------- the page


def tried(what: Try, perplexity: float) -> Tried:
    return Tried(what, log(perplexity), ((1, log(perplexity)),), 1_000_000, 1.0, "here")


def valley(width: int, lowest: float, rates: tuple[float, ...]) -> list[Tried]:
    """Tries on a parabola in logarithms."""
    return [tried(mended(width, r), 10 * exp(log(r / lowest) ** 2)) for r in rates]


RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def test_the_best_rate_is_found_between_the_rates_that_were_tried() -> None:
    found = optimum(valley(64, 1.7e-3, RATES))
    assert found.rate == pytest.approx(1.7e-3)
    assert found.inside


@pytest.mark.parametrize("lowest", [1e-4, 1e-1])
def test_a_best_rate_at_the_edge_is_said_to_be_there(lowest: float) -> None:
    tries = valley(64, lowest, RATES)
    assert not optimum(tries).inside
    assert "at the edge" in page(tries)


def test_the_rule_goes_through_the_best_rates_of_all_widths() -> None:
    widths = (64, 128, 256)
    tries = [t for w in widths for t in valley(w, 0.4 * w**-0.8, (*RATES, 1.6e-2, 3.2e-2))]
    a, b = power({w: optimum(own).rate for w, own in by_width(tries).items()})
    assert a == pytest.approx(0.4, rel=1e-6)
    assert b == pytest.approx(-0.8)
    assert "rate = 0.4 x width^-0.80" in page(tries)


def test_only_tries_that_differ_in_width_and_rate_alone_make_the_rule() -> None:
    plain = valley(64, 1.7e-3, RATES)
    others = [
        replace(t, what=what, loss=0.0)
        for t in plain
        for what in (
            replace(t.what, seed=1),
            replace(t.what, steps=900),
            replace(t.what, dropout=0.1),
            replace(t.what, deviation=0.02),
            replace(t.what, warmup=0.05),
        )
    ]
    assert by_width([*others, *plain]) == {64: plain}


def test_the_page_counts_the_tries_of_each_side() -> None:
    tries = valley(64, 1.7e-3, RATES)
    ours = [tried(Try(LUMINANET, 112, 5e-3), 9.0), tried(Try(LUMINANET, 112, 3e-3), 9.5)]
    shown = page([*tries, *ours])
    assert f"| GPT-2 | 450 | 5 | 10.27 | {mended(64, 2e-3).name} |" in shown
    assert f"| LuminaNet | 450 | 2 | 9.00 | {LUMINANET}-112-0.005-450 |" in shown


def test_what_mending_is_worth_is_shown_at_equal_width_and_steps() -> None:
    tries = [
        tried(Try(GPT2, 64, 3e-3), 53.0),
        tried(Try(GPT2, 64, 5e-3), 69.0),
        tried(mended(64, 8e-3), 29.0),
        tried(mended(128, 8e-3), 22.0),
        tried(mended(64, 8e-3, steps=900), 15.0),
    ]
    shown = gains(tries).splitlines()[2:]
    changes = ", ".join(mended(64, 8e-3).changes)
    assert shown == [f"| 64 | 450 | 53.00 at 0.003 (of 2) | 29.00 at 0.008 (of 1) | {changes} |"]


def test_what_differs_from_the_usual_recipe_is_named() -> None:
    what = Try(GPT2, 64, 1e-3, beta2=0.95, dropout=0.1)
    assert what.changes == ["dropout=0.1", "beta2=0.95"]
    assert what.name == "gpt2-64-0.001-450-dropout=0.1-beta2=0.95"
    assert "| dropout=0.1, beta2=0.95 |" in page([tried(what, 12.0)])


def test_long_runs_show_their_course() -> None:
    curve = tuple((step, log(20 - step / 100)) for step in (150, 300, 450, 600))
    shown = page([replace(tried(Try(GPT2, 64, 1e-3, steps=600), 14.0), curve=curve)])
    assert "| gpt2-64-0.001-600 | 18.50 | 17.00 | 15.50 | 14.00 |" in shown
