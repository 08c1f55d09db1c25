"""The experiment on selection: arms, runs that are done once, and what the page claims."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import ledger
from benchmarks.topology import selection
from benchmarks.topology.arms import MACS
from benchmarks.topology.selection import (
    ARMS,
    BY_HAND,
    FROM_SCRATCH,
    RANDOM,
    WORST,
    WORTH,
    Outcome,
    draw,
    main,
    page,
    verdict,
)
from benchmarks.topology.trained import images
from luminanet.cost.macs import macs
from luminanet.topology import Topology
from tests.datasets import write_images
from training.presets import IMAGE_PRESETS
from training.topologies import SEEDINGS

torch.set_num_threads(1)
SCALES = SEEDINGS["scales-dense"](4, 4, 0)
GRID = SEEDINGS["dense"](4, 4, 0)


def outcome(arm: str, seed: int, loss: float, network: Topology = SCALES) -> Outcome:
    topology = network.to_json()
    return Outcome(arm, seed, 60, loss, 1 - loss / 4, 1000, 2000, topology, 9.0, "here")


KNOWN = [
    *(outcome(WORTH, seed, 1.20 + seed / 100) for seed in range(3)),
    *(outcome(RANDOM, seed, 1.25 + seed / 90, GRID) for seed in range(3)),
]


# ---------------------------------------------------------------------- what is claimed


def test_a_choice_is_claimed_when_it_beats_chance_by_two_standard_errors() -> None:
    assert verdict(KNOWN).startswith("**The choice is real**: worth has 0.0511 less loss than")


def test_no_choice_is_claimed_within_two_standard_errors_nor_where_chance_is_better() -> None:
    noisy = [replace(o, loss=o.loss + (0.2 if o.seed == 1 else -0.1)) for o in KNOWN[:3]]
    assert verdict([*noisy, *KNOWN[3:]]).startswith("**No choice can be claimed**")
    swapped = [replace(o, arm=RANDOM if o.arm == WORTH else WORTH) for o in KNOWN]
    assert "more loss" in verdict(swapped)
    assert verdict(swapped).startswith("**No choice can be claimed**")


def test_nothing_is_said_before_two_seeds_are_paired() -> None:
    assert "need two seeds in common" in verdict([KNOWN[0], KNOWN[1], KNOWN[3]])
    assert "need two seeds in common" in verdict([])


def test_only_seeds_that_both_have_are_compared() -> None:
    odd = replace(KNOWN[0], seed=9, loss=100.0)
    assert verdict([*KNOWN, odd]) == verdict(KNOWN)


def test_the_page_shows_arms_differences_fields_and_end_points() -> None:
    text = page(KNOWN)
    assert "| worth | 3 | 1.2100 ± 0.0100 |" in text
    assert "| worth - random | 3 | -0.0511 ± 0.0006 |" in text
    assert "| worth | 0 | 8 | 8 | 8 | 17 | 8 of one |" in text
    assert "| random | 2 | 24 | 0 | 0 | 16 | 2 of one |" in text
    assert "## End points" in text
    assert "| worth, random | 3 |" in text


def test_the_picture_has_a_row_for_each_of_both_policies(tmp_path: Path) -> None:
    path = tmp_path / "selection.svg"
    draw(KNOWN, path)
    drawn = path.read_text("utf-8")
    assert "worth: 8 of 4x4 means" in drawn
    assert "random: 24 of image" in drawn


# ---------------------------------------------------------------------- runs


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a tiny experiment on made-up pictures."""
    preset = IMAGE_PRESETS["cifar10-selected"]
    assert preset.evolution
    small = preset.having(
        width=2,
        channel=4,
        held_out=0.1,
        evolution=replace(preset.evolution, selected=6),
    )
    monkeypatch.setitem(IMAGE_PRESETS, "cifar10-selected", small)
    monkeypatch.setattr(selection, "scales", lambda *_: SCALES_OF_TWO)
    monkeypatch.setattr(selection, "SPREAD", [0, 1])
    images.cache_clear()
    write_images(tmp_path)
    folders = ["--data", str(tmp_path), "--report", str(tmp_path), "--out", str(tmp_path / "runs")]
    return [*folders, "--steps", "12", "--seeds", "0,1", "--batch", "16"]


SCALES_OF_TWO = [cluster.patches[0] for cluster in SCALES.clusters[7:9]]


def known(tmp_path: Path) -> list[Outcome]:
    rows = ledger.read(tmp_path / selection.FIGURES, selection.RUNS)
    return [Outcome(**row) for row in rows]


def test_every_arm_runs_once_with_each_seed_and_ends_within_the_budget(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words) == 0
    made = known(tmp_path)
    assert [(o.arm, o.seed) for o in made] == [(arm, seed) for seed in (0, 1) for arm in ARMS]
    assert all(macs(o.network) == o.macs <= MACS for o in made)
    monkeypatch.setattr(selection, "perform", lambda *_: pytest.fail("done already"))
    assert main(words) == 0
    assert known(tmp_path) == made
    text = (tmp_path / selection.PAGE).read_text("utf-8")
    assert "python -m benchmarks.topology.selection --steps 12" in text
    assert str(tmp_path) not in text


def test_what_worth_chose_is_trained_from_scratch_with_the_same_seed(
    words: list[str], tmp_path: Path
) -> None:
    assert main([*words, "--only", WORTH]) == 0
    assert main([*words, "--only", FROM_SCRATCH]) == 0
    ends = {(o.arm, o.seed): o.network for o in known(tmp_path)}
    assert all(ends[FROM_SCRATCH, seed] == ends[WORTH, seed] for seed in (0, 1))


def test_what_worth_chose_cannot_be_trained_before_it_has_chosen(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--only", FROM_SCRATCH]) == 2
    assert "run that arm first" in capsys.readouterr().err


def test_policies_differ_in_nothing_but_the_fields_that_are_left(
    words: list[str], tmp_path: Path
) -> None:
    assert main([*words, "--seeds", "0", "--only", "[wr]*"]) == 0
    found = {o.arm: o.network for o in known(tmp_path)}
    assert set(found) == {WORTH, RANDOM, WORST}
    assert {len(network.clusters) for network in found.values()} == {6}
    seen = {arm: sorted(c.fields for c in network.clusters) for arm, network in found.items()}
    assert seen[WORTH] != seen[WORST]


def test_an_arm_by_an_unknown_name_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--only", "best"]) == 2
    assert "no arm is named like 'best'" in capsys.readouterr().err


def test_a_run_that_was_cut_short_is_told_by_its_arms(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--most", "1"]) == 0
    assert [(o.arm, o.seed) for o in known(tmp_path)] == [(WORTH, 0)]
    assert json.loads((tmp_path / selection.FIGURES).read_text("utf-8"))["runs"][0]["seed"] == 0
    assert BY_HAND not in (tmp_path / selection.PAGE).read_text("utf-8").split("by hand  ")[0]
