"""The map of what a topology chooses: arms of equal cost, runs that are done once, and the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import benchmarks.topology.__main__ as command
from benchmarks.topology import arms as made
from benchmarks.topology import trained as trained_arm
from benchmarks.topology.arms import DRAWN, MACS, MAX_PARAMETERS, REFERENCE, Arm, arms, fitted
from benchmarks.topology.map import draw, page
from benchmarks.topology.trained import Trained
from luminanet.cost.macs import macs
from luminanet.errors import ConfigError
from tests.datasets import write_images

torch.set_num_threads(1)


def test_every_arm_fills_the_same_budget() -> None:
    for arm in arms(draws=2):
        assert 0.95 * MACS < macs(arm.topology) <= MACS, arm.name


def test_an_arm_by_chance_is_the_same_every_time_and_another_one_with_another_draw() -> None:
    first, again = arms(draws=2), arms(draws=2)
    assert first == again
    drawn = {(arm.choice, arm.draw): arm.topology for arm in first if arm.draw is not None}
    assert len(drawn) == 2 * len(DRAWN)
    assert len(set(map(str, drawn.values()))) == len(drawn)


def test_more_draws_leave_those_before_as_they_were() -> None:
    more = {(arm.name, arm.draw): arm for arm in arms(draws=3)}
    assert all(more[arm.name, arm.draw] == arm for arm in arms(draws=1))


def test_each_arm_has_a_folder_of_its_own() -> None:
    folders = [arm.folder for arm in arms(draws=3)]
    assert len(set(folders)) == len(folders)


def test_what_cannot_be_made_narrow_enough_is_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit into 1000 MACs"):
        fitted(made.network(made.GRID, made.TWO), budget=1000)


# ---------------------------------------------------------------------- runs


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a map of two tiny arms on made-up pictures."""
    small = [made.network(made.grid(16), [0] * 4, links) for links in ("dense", "none")]
    few = [Arm("reference", REFERENCE, small[0]), Arm("connections", "unconnected", small[1])]
    monkeypatch.setattr(command, "arms", lambda _draws: few)
    monkeypatch.setattr(trained_arm, "BASE", replace(trained_arm.BASE, batch=16, held_out=0.1))
    write_images(tmp_path / "data", train=200)
    folders = {"--data": "data", "--out": "runs", "--report": "report"}
    words = [word for name, folder in folders.items() for word in (name, str(tmp_path / folder))]
    return [*words, "--steps", "2", "--seeds", "0,1"]


def figures(tmp_path: Path) -> list[Trained]:
    raw = json.loads((tmp_path / "report/map.json").read_text())
    return [Trained.from_dict(run) for run in raw["runs"]]


def test_the_reference_has_every_seed_and_the_others_the_first(
    words: list[str], tmp_path: Path
) -> None:
    assert command.main(words) == 0
    found = [(run.name, run.seed) for run in figures(tmp_path)]
    assert found == [(REFERENCE, 0), (REFERENCE, 1), ("unconnected", 0)]
    assert "| connections | unconnected | 1 |" in (tmp_path / "report/map.md").read_text()
    assert (tmp_path / "report/map.svg").exists()


def test_what_is_known_is_not_run_again_and_the_rest_may_come_later(
    words: list[str], tmp_path: Path
) -> None:
    assert command.main([*words, "--most", "1"]) == 0
    first = figures(tmp_path)
    assert len(first) == 1
    assert command.main(words) == 0
    assert figures(tmp_path)[0] == first[0]
    assert len(figures(tmp_path)) == 3


def test_a_name_that_no_arm_has_is_a_clear_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*words, "--only", "alexnet*"]) == 2
    assert "no arm is named like 'alexnet*'" in capsys.readouterr().err


# ---------------------------------------------------------------------- the page


def trained(name: str, loss: float, seed: int = 0, chance: int | None = None) -> Trained:
    return Trained(
        choice="x" if chance is None else "wiring",
        name=name,
        draw=chance,
        seed=seed,
        steps=1000,
        loss=loss,
        accuracy=0.5,
        parameters=700_000,
        macs=MACS,
        clusters=24,
        connections=576,
        curve=(),
        seconds=1.0,
        made="here",
    )


SEEDS = [trained(REFERENCE, 1.0 + 0.01 * seed, seed) for seed in range(3)]


def row(name: str, runs: list[Trained]) -> str:
    return next(line for line in page(runs).splitlines() if f"| {name} |" in line)


def test_draws_that_spread_as_seeds_do_do_not_count() -> None:
    near = [trained("wiring by chance", 1.0 + 0.011 * k, chance=k) for k in range(3)]
    assert row("wiring by chance", [*SEEDS, *near]).endswith("| no, 1.1 x |")


def test_draws_that_spread_wider_than_seeds_count() -> None:
    far = [trained("wiring by chance", 1.0 + 0.05 * k, chance=k) for k in range(3)]
    assert row("wiring by chance", [*SEEDS, *far]).endswith("| yes, 5.0 x |")


def test_one_made_by_hand_counts_by_its_distance_from_the_reference() -> None:
    assert row("apart", [*SEEDS, trained("apart", 1.06)]).endswith("| +0.0500 | yes, 5.0 x |")
    assert row("close", [*SEEDS, trained("close", 1.02)]).endswith("| +0.0100 | no, 1.0 x |")


def test_without_two_seeds_nothing_is_said_of_spreads() -> None:
    shown = page([SEEDS[0], trained("apart", 2.0)])
    assert "nothing can be said of spreads" in shown
    assert "yes" not in shown


def test_what_has_more_parameters_than_allowed_is_marked() -> None:
    large = replace(trained("large", 1.0), parameters=MAX_PARAMETERS + 1)
    assert "| 1.20 M * |" in row("large", [*SEEDS, large])


def test_the_same_figures_are_the_same_picture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw([*SEEDS, trained("wiring by chance", 1.1, chance=0)], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
