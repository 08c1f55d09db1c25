"""The comparison with other servers: its arithmetic, and what is sent."""

import argparse
import json

import pytest

from benchmarks.peers.__main__ import Round, page, picture_of
from benchmarks.peers.contenders import REQUIREMENTS, form, in_json
from benchmarks.peers.wrk import Driven
from serving.api.encoded import decode


def a_round(requests: int, p99_s: float, cpu_s: float) -> Round:
    return Round(Driven(requests, 1.0, p99_s / 2, p99_s, errors=0), cpu_s)


def test_ratios_are_those_within_a_round_and_above_one_where_ours_is_ahead() -> None:
    rounds = {
        "LuminaNet": [a_round(300, 0.1, 0.3), a_round(100, 0.2, 0.1)],
        "other": [a_round(100, 0.4, 0.2), a_round(50, 0.2, 0.1)],
    }
    text = page(rounds, argparse.Namespace(connections=32, side=32, rounds=2, seconds=1.0))
    assert "| other | 2.50 (2.00 to 3.00) | 2.50 (1.00 to 4.00) | 2.00 (2.00 to 2.00) |" in text


def test_answers_that_are_errors_do_not_count() -> None:
    assert Driven(100, 2.0, 0.1, 0.2, errors=40).rate == 30


@pytest.mark.parametrize("side", [32, 96])
def test_the_same_picture_is_sent_in_either_way(side: int) -> None:
    png = picture_of(side, seed=0)
    assert png in form("file")(png).body
    assert decode(json.loads(in_json(png).body)["image"]) == png
    assert png == picture_of(side, seed=0) != picture_of(side, seed=1)


def test_no_peer_needs_torch() -> None:
    names = [line.partition("==")[0].lower() for line in REQUIREMENTS.read_text().splitlines()]
    assert {"litserve", "bentoml", "fastapi", "onnxruntime"} <= set(names)
    assert "torch" not in names
