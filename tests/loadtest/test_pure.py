"""Plans, answers and figures: without locust, which patches the process that imports it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.figures import Cell, Objective, knee, quantiles
from loadtest.answers import CUT, Stream, failure
from loadtest.plan import Step, arrivals, sweep
from loadtest.samples import Recording, Sample, read
from loadtest.workload import SHAPES, STREAMS, call
from serving.api.schemas import GenerateRequest

STEP = Step(("luminanet stream",), rate=50, seconds=200)
OBJECTIVE = Objective(ttft_s=0.2, tpot_s=0.02)


def sample(**changes: float) -> Sample:
    """Intended at 10, sent 0.1 late; first of 5 tokens at 10.3, the last at 10.5."""
    base = Sample(0, "luminanet stream", 10.0, 10.1, 10.6, 10.3, 10.5, 5, (0.2,))
    return replace(base, **changes)  # type: ignore[arg-type]


def test_gaps_between_arrivals_are_exponential_and_of_the_rate() -> None:
    times = np.array([arrival.at_s for arrival in arrivals(STEP, seed=0)])
    gaps = np.diff(times)
    assert np.all(gaps > 0)
    assert times[-1] < STEP.seconds
    assert len(times) == pytest.approx(STEP.rate * STEP.seconds, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_models_meet_the_same_times_and_draws_and_repeats_others() -> None:
    one, other = (arrivals(replace(STEP, shapes=shapes), 3) for shapes in STREAMS)
    assert [(a.at_s, a.draw) for a in one] == [(a.at_s, a.draw) for a in other]
    assert arrivals(replace(STEP, repeat=1), 3) != one
    assert arrivals(STEP, 4) != one


def test_models_take_turns_in_going_first() -> None:
    steps = sweep(STREAMS, rates=[1, 2], seconds=1, repeats=2)
    first = [steps[k].shapes for k in range(0, len(steps), 2)]
    assert len(steps) == 8
    assert all(first.count(shapes) == 2 for shapes in STREAMS)


def test_every_text_request_is_one_that_the_api_takes_and_its_seed_decides_it() -> None:
    texts = [name for name in SHAPES if "classify" not in name]
    for name in texts:
        body = json.loads(call(name, 7).body)
        asked = GenerateRequest.model_validate(body)
        assert (asked.model, asked.stream) == (SHAPES[name].model, SHAPES[name].streams)
        assert call(name, 7) == call(name, 7) != call(name, 8)


def test_the_first_event_with_text_is_the_first_token() -> None:
    stream = Stream()
    frames = [{"text": ""}, {"text": "a"}, {"text": ""}, {"text": "b"}]
    for at_s, frame in enumerate([*frames, {"usage": {"completion_tokens": 8}}]):
        stream.frame(b"data: " + json.dumps(frame).encode() + b"\n\n", at_s)
    assert stream.error == CUT
    stream.frame(b"data: [DONE]\n\n", 9)
    assert (stream.first_s, stream.last_s, stream.gaps_s) == (1, 3, [2])
    assert (stream.tokens, stream.error) == (8, "")


def test_an_error_in_a_stream_is_a_failure_whatever_follows() -> None:
    stream = Stream()
    stream.frame(b'data: {"error": {"type": "internal_error"}}\n\n', 0)
    stream.frame(b"data: [DONE]\n\n", 1)
    assert stream.error == "internal_error"
    assert failure([]) == "no JSON error"


def test_latency_counts_from_the_intended_time_and_service_from_the_sent_one() -> None:
    found = sample()
    assert found.latency_s == pytest.approx(0.6)
    assert found.service_s == pytest.approx(0.5)
    assert found.lag_s == pytest.approx(0.1)
    assert found.ttft_s == pytest.approx(0.3)
    assert found.tpot_s == pytest.approx(0.05)
    assert replace(found, tokens=1).tpot_s is None


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    recording = Recording(3, [STEP], [(1.0, 2.0)], [sample()])
    recording.write(tmp_path / "samples.json")
    assert read(tmp_path / "samples.json") == recording
    assert [path.name for path in tmp_path.iterdir()] == ["samples.json"]


def cell(rate: float, share: float) -> Cell:
    good, bad = sample(first_s=10.1, last_s=10.15), replace(sample(), error="429 overloaded")
    met = round(100 * share)
    samples = [good] * met + [bad] * (100 - met)
    return Cell("luminanet", rate, samples, [samples], 10.0, 12.0, 1.0, 1, 0.1)


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantiles([1.0] * 99 + [5.0]) == [1.0, 1.0, 1.0, 5.0]
    assert np.isnan(quantiles([])).all()


def test_goodput_counts_what_met_the_objective_and_a_failure_never_does() -> None:
    found = cell(10, 0.9)
    assert (found.share(OBJECTIVE), found.goodput(OBJECTIVE)) == (0.9, 9.0)
    assert found.failed == 10
    assert not OBJECTIVE.met(sample(first_s=10.21))
    assert not OBJECTIVE.met(sample(first_s=10.1, last_s=10.2))


def test_the_knee_is_the_last_rate_before_the_first_miss() -> None:
    shares = {5: 1.0, 10: 0.97, 20: 0.5, 40: 0.99}
    found = [cell(rate, share) for rate, share in shares.items()]
    assert knee(found, OBJECTIVE) == 10
    assert knee(found[2:], OBJECTIVE) is None
