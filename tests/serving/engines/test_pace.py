"""How soon a place comes free: what an engine did of late, and what clients are told of it."""

from typing import Any

import pytest

from luminanet.sampling import Sampling
from serving.engines.detokenize import Transcript
from serving.engines.engine import LONGEST_RETRY_S
from serving.engines.pace import RECENT_S, Pace
from serving.engines.text import Generation
from serving.errors import OverloadedError
from tests.serving.helpers import Alphabet, Bench, Counting, wait_until


def paced(*steps: tuple[float, int]) -> Pace:
    """Of (seconds, requests that ended) one after the other, with work all the time."""
    pace, now_s = Pace(), 0.0
    pace.work_comes(now_s)
    for seconds, ended in steps:
        now_s += seconds
        pace.went_on(now_s, ended, more=True)
    return pace


def job_of(token: int) -> Generation:
    stream: Any = Alphabet()
    return Generation([token], Transcript(stream, ()), Sampling(temperature=0), 1, 0.0)


def test_an_engine_that_ends_two_a_second_has_ten_places_after_five_seconds() -> None:
    assert paced(*[(0.5, 1)] * 1000).wait_s(10) == pytest.approx(5, rel=0.05)
    assert paced(*[(2.0, 4)] * 250).wait_s(10) == pytest.approx(5, rel=0.05)


def test_a_place_takes_no_time_before_anything_is_known() -> None:
    assert Pace().wait_s(1) == 0


def test_the_longer_nothing_ends_the_longer_it_takes() -> None:
    waits = [paced(*[(1.0, 0)] * seconds).wait_s(3) for seconds in (1, 5, 10)]
    assert waits == sorted(waits)
    assert waits[0] == 3, "as if the next one ended now"


def test_the_last_requests_count_more_than_those_of_long_ago() -> None:
    fast, slow = [(0.1, 1)] * 1000, [(5.0, 1)] * int(10 * RECENT_S / 5)
    assert paced(*fast, *slow).wait_s(1) == pytest.approx(5, rel=0.2)
    assert paced(*slow, *fast).wait_s(1) == pytest.approx(0.1, rel=0.1)


def test_time_without_work_is_passed_over() -> None:
    pace = paced(*[(0.5, 1)] * 1000)
    before_s = pace.wait_s(10)
    pace.went_on(500.0, 0, more=False)
    pace.work_comes(9000.0)
    pace.work_comes(9000.4)
    pace.went_on(9000.5, 1, more=False)
    pace.went_on(9900.0, 0, more=False)
    assert pace.wait_s(10) == pytest.approx(before_s, rel=0.01)


@pytest.mark.parametrize(
    ("ended_before", "worked_s", "told_s"), [(9, 40.0, 4), (1999, 20.0, 1), (0, 3000.0, 60)]
)
def test_who_is_turned_away_is_told_when_the_queue_will_have_a_place(
    ended_before: int, worked_s: float, told_s: int
) -> None:
    counting = Counting(rows=1)
    counting.open = False
    with Bench(counting, max_batch=1, queue_limit=1) as bench:
        bench.engine._pace._worked_s = worked_s
        bench.engine._pace._ended = ended_before
        running = bench.submit([0], max_tokens=1)
        wait_until(lambda: len(bench.engine._running) == 1)
        waiting = bench.submit([0], max_tokens=1)
        with pytest.raises(OverloadedError) as refused:
            bench.submit([0])
        counting.open = True
        counting.gate.release()
        assert [bench.read(job)[0] for job in (running, waiting)] == ["b", "b"]
    assert refused.value.retry_after_s == told_s <= LONGEST_RETRY_S


def test_requests_that_end_are_counted_as_they_end() -> None:
    with Bench(Counting(rows=2), max_batch=2) as bench:
        jobs = [bench.submit([0], max_tokens=3) for _ in range(5)]
        for job in jobs:
            bench.read(job)
        wait_until(lambda: bench.engine._pace._ended > 4.99)
        assert bench.engine._pace.wait_s(6) < 60


@pytest.mark.parametrize(("queue_s", "taken"), [(0, 8), (0.5, 2), (2.5, 5)])
def test_who_would_wait_too_long_is_turned_away_unless_few_wait(queue_s: float, taken: int) -> None:
    counting = Counting(rows=8)
    counting.open = False
    with Bench(counting, max_batch=8, queue_limit=8, queue_s=queue_s) as bench:
        jobs = [bench.submit([0], max_tokens=1) for _ in range(8)]
        wait_until(lambda: len(bench.engine._running) == 8)
        bench.engine._pace._worked_s, bench.engine._pace._ended = 50.0, 99  # two a second
        jobs += [bench.submit([0], max_tokens=1) for _ in range(taken)]
        with pytest.raises(OverloadedError):
            bench.submit([0])
        if queue_s:
            jobs.pop().cancel()
            jobs.append(bench.submit([0], max_tokens=1))  # in place of one who left
        counting.open = True
        counting.gate.release()
        assert all(bench.read(job)[0] == "b" for job in jobs)


def test_what_comes_together_is_let_in_whole_where_one_would_be() -> None:
    counting = Counting(rows=1)
    counting.open = False
    with Bench(counting, max_batch=1, queue_limit=8, queue_s=0.1) as bench:
        bench.engine._pace._worked_s = 50.0
        first = bench.submit([0], max_tokens=1)
        wait_until(lambda: len(bench.engine._running) == 1)
        together = [job_of(n) for n in range(5)]
        bench.engine.submit(*together)
        with pytest.raises(OverloadedError):
            bench.submit([0])
        counting.open = True
        counting.gate.release()
        assert all(bench.read(job)[0] for job in (first, *together))
