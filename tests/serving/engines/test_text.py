"""Continuous batching: who joins, who leaves, and that nobody's text depends on the others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest

from luminanet.artifact.manifest import Family
from luminanet.sampling import Sampling
from serving.engines.job import Finish
from serving.engines.making import _sequences
from serving.engines.sequences import Sequences
from serving.engines.text import PROMPT_TOKENS, Generation
from serving.errors import OverloadedError, ShuttingDownError, UnavailableError
from serving.models.load import Models, TextModel
from tests.serving.helpers import TIMEOUT_S, Bench, Counting, wait_until

PROMPTS = ("Once upon a", "Lily", "The big dog ran", "She", "a red ball", "One day", "L", "park")


def bench(
    rows: int = 4, steps: int = 1, room: int = 1000, **options: Any
) -> tuple[Bench, Counting]:
    sequences = Counting(rows, steps, room)
    return Bench(sequences, max_batch=rows, **options), sequences


def shut(sequences: Counting) -> None:
    """From now on every step waits for a permit."""
    sequences.open = False


# ---------------------------------------------------------------------- texts


@pytest.mark.parametrize("family", [Family.LUMINANET, Family.GPT2])
@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.0, 20, 0.9, 0.01, 1.1)])
def test_a_text_is_the_same_alone_and_in_a_changing_batch_whatever_a_call_draws(
    any_steps: dict[int, Models], family: Family, sampling: Sampling
) -> None:
    def texts(steps: int, max_batch: int, lengths: list[int]) -> list[tuple[str, Finish]]:
        model = any_steps[steps].text[family]
        sequences = make_sequences(model, max_batch)
        end = model.manifest.end_id
        with Bench(sequences, max_batch, end_id=end) as one, ThreadPoolExecutor(8) as pool:

            def write(prompt: str, length: int, seed: int) -> tuple[str, Finish]:
                how = replace(sampling, seed=seed)
                ids, stream = model.encode(prompt), model.tokenizer.stream()
                return one.read(one.submit(ids, length, sampling=how, stream=stream))

            return list(pool.map(write, PROMPTS, lengths, range(len(PROMPTS))))

    lengths = [3, 20, 9, 14, 1, 25, 6, 12]
    alone = texts(1, 1, lengths)
    assert texts(1, 3, lengths) == alone
    assert texts(4, 8, lengths) == alone
    assert texts(8, 3, lengths) == alone
    assert len({text for text, _ in alone}) > 4


def test_another_seed_gives_another_text(models: Models) -> None:
    model = models.text[Family.LUMINANET]
    with Bench(make_sequences(model, 1), 1, end_id=-1) as one:
        texts = [
            one.read(one.submit([1], 20, sampling=Sampling(seed=seed), stream=stream(model)))[0]
            for seed in (0, 1)
        ]
    assert texts[0] != texts[1]


def make_sequences(model: TextModel, rows: int) -> Sequences:
    made = _sequences(model, rows)
    assert made is not None
    return made


def stream(model: TextModel) -> Any:
    return model.tokenizer.stream()


def test_requests_join_running_ones_and_the_batch_shrinks_when_they_leave() -> None:
    one, sequences = bench()
    shut(sequences)
    with one:
        first = one.submit([0], max_tokens=4)
        sequences.gate.release()
        wait_until(lambda: len(sequences.batches) == 1)
        second = one.submit([10], max_tokens=2)
        sequences.gate.release(3)
        assert one.read(first) == ("bcde", Finish.LENGTH)
        assert one.read(second) == ("lm", Finish.LENGTH)
    assert sequences.batches in ([1, 2, 2, 1], [1, 1, 2, 2])


def test_no_more_rows_run_than_max_batch_allows() -> None:
    one, sequences = bench(rows=2)
    with one:
        jobs = [one.submit([n], max_tokens=3) for n in range(5)]
        assert [one.read(job)[0] for job in jobs] == ["bcd", "cde", "def", "efg", "fgh"]
    assert max(sequences.batches) == 2


def test_the_end_of_text_token_stops_and_is_counted_but_not_shown() -> None:
    one, _ = bench()
    with one:
        job = one.submit([22], max_tokens=9)
        assert one.read(job) == ("xy", Finish.STOP)
        assert job.tokens == 3


def test_a_stop_string_across_tokens_stops_and_is_not_shown() -> None:
    one, _ = bench()
    with one:
        job = one.submit([0], max_tokens=20, stop=["ef"])
        assert one.read(job) == ("bcd", Finish.STOP)
        assert job.tokens == 5


def test_a_held_back_prefix_is_given_when_the_text_ends_by_length() -> None:
    one, _ = bench()
    with one:
        assert one.read(one.submit([0], max_tokens=4, stop=["efg"])) == ("bcde", Finish.LENGTH)


# ---------------------------------------------------------------------- several tokens a call


def test_the_tokens_of_a_call_are_handed_over_together() -> None:
    one, sequences = bench(steps=4)
    with one:
        pieces = one.pieces(one.submit([0], max_tokens=9))
    assert [(piece.text, list(piece.logs)) for piece in pieces] == [
        ("b", [-1]),
        ("cdef", [-2, -3, -4, -5]),
        ("ghij", [-6, -7, -8, -9]),
        ("", []),
    ]
    assert sequences.batches == [1, 1, 1]


def test_a_call_draws_a_single_token_while_a_row_waits_for_its_first() -> None:
    one, sequences = bench(steps=4)
    shut(sequences)
    with one:
        first = one.submit([0], max_tokens=14)
        sequences.gate.release(2)
        wait_until(lambda: len(sequences.batches) == 2)
        second = one.submit([10], max_tokens=5)
        sequences.gate.release(9)
        counts = [[len(piece.logs) for piece in one.pieces(job)] for job in (first, second)]
    assert counts[0] in ([1, 4, 1, 4, 4, 0], [1, 4, 4, 1, 4, 0])
    assert counts[1] == [1, 4, 0]


def test_what_follows_the_end_inside_a_call_is_dropped() -> None:
    one, _ = bench(steps=8)
    with one:
        ended = one.submit([22], max_tokens=99)
        full = one.submit([0], max_tokens=3)
        stopped = one.submit([0], max_tokens=99, stop=["cd"])
        assert one.read(ended) == ("xy", Finish.STOP)
        assert one.read(full) == ("bcd", Finish.LENGTH)
        assert one.read(stopped) == ("b", Finish.STOP)
        assert (ended.tokens, full.tokens, stopped.tokens) == (3, 3, 3)
        assert one.counted("generation_tokens_total") == 9


def test_a_text_ends_with_its_room_inside_a_call() -> None:
    one, _ = bench(steps=4, room=6)
    with one:
        job = one.submit([0], max_tokens=99)
        assert one.read(job) == ("bcdefg", Finish.LENGTH)
        assert job.tokens == 6


def test_a_row_that_breaks_inside_a_call_keeps_what_came_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, _ = bench(steps=4)
    with one:
        broken, whole = one.submit([17], max_tokens=9), one.submit([0], max_tokens=9)
        assert one.read(broken) == ("stu", Finish.ERROR)
        assert one.read(whole) == ("bcdefghij", Finish.LENGTH)
        assert broken.tokens == 3


def test_log_probabilities_of_text_that_is_held_back_come_at_once() -> None:
    one, _ = bench(steps=2)
    with one:
        pieces = one.pieces(one.submit([0], max_tokens=4, stop=["bcdx"]))
    assert [(piece.text, list(piece.logs)) for piece in pieces] == [
        ("", [-1]),
        ("", [-2, -3]),
        ("bcde", [-4]),
        ("", []),
    ]


def test_every_request_samples_in_its_own_way() -> None:
    one, sequences = bench()
    ways = [Sampling(0.5, 3, 0.9, 0.1, 1.2, seed) for seed in range(3)]
    with one:
        for job in [one.submit([0], 1, sampling=way) for way in ways]:
            one.read(job)
    assert sequences.asked == ways


# ---------------------------------------------------------------------- leaving early


def test_a_cancelled_request_leaves_before_the_next_step() -> None:
    one, sequences = bench()
    shut(sequences)
    with one:
        gone, kept = one.submit([0], max_tokens=20), one.submit([5], max_tokens=4)
        sequences.gate.release()
        wait_until(lambda: len(sequences.batches) == 1)
        gone.cancel()
        before = len(sequences.batches)
        sequences.gate.release(9)
        assert one.read(kept) == ("ghij", Finish.LENGTH)
        assert one.read(gone)[1] is Finish.CANCELLED
        assert sequences.batches[before + 1 :].count(2) == 0, "at most the step under way"
        assert one.counted("requests_finished_total", finish_reason="cancelled") == 1


def test_a_request_leaves_at_its_deadline_whether_it_runs_or_waits() -> None:
    one, sequences = bench(rows=1)
    shut(sequences)
    with one:
        runs = one.submit([0], max_tokens=20)
        wait_until(lambda: one.counted("requests_running") == 1)
        waits, kept = one.submit([1]), one.submit([2], max_tokens=1)
        for job in runs, waits:
            job.cancel(Finish.DEADLINE)
            job.cancel()  # as its handler does in the end
        sequences.gate.release(9)
        assert [one.read(job)[1] for job in (runs, waits)] == [Finish.DEADLINE] * 2
        assert one.read(kept) == ("d", Finish.LENGTH)
        assert one.counted("requests_finished_total", finish_reason="deadline") == 2


def test_a_cancelled_request_gives_back_its_place_in_the_queue() -> None:
    one, sequences = bench(rows=1, queue_limit=1)
    shut(sequences)
    with one:
        running = one.submit([0], max_tokens=3)
        wait_until(lambda: one.counted("requests_running") == 1)
        waiting = one.submit([1])
        with pytest.raises(OverloadedError):
            one.submit([2])
        waiting.cancel()
        sequences.gate.release()
        wait_until(lambda: one.counted("requests_waiting") == 0)
        next_one = one.submit([2], max_tokens=1)
        sequences.gate.release(9)
        assert one.read(running) == ("bcd", Finish.LENGTH)
        assert one.read(waiting) == ("", Finish.CANCELLED)
        assert one.read(next_one) == ("d", Finish.LENGTH)


def test_requests_that_a_free_row_awaits_do_not_count_against_the_queue() -> None:
    one, sequences = bench(rows=4, queue_limit=1)
    shut(sequences)
    with one:
        jobs = [one.submit([n], max_tokens=1) for n in range(5)]
        with pytest.raises(OverloadedError):
            one.submit([0])
        sequences.gate.release(9)
        assert [one.read(job)[1] for job in jobs] == [Finish.LENGTH] * 5


def test_running_texts_wait_for_a_few_prompts_not_for_all_that_came_at_once() -> None:
    one, sequences = bench(rows=8)
    sequences.computes = True
    shut(sequences)
    prompt = [0] * (PROMPT_TOKENS // 2)
    with one:
        running = one.submit([0] * PROMPT_TOKENS, max_tokens=4)
        wait_until(lambda: one.counted("requests_running") == 1)
        joining = [one.submit(prompt, max_tokens=4) for _ in range(5)]
        sequences.gate.release(99)
        assert [one.read(job)[0] for job in (running, *joining)] == ["bcde"] * 6
    assert sequences.batches[:4] == [1, 3, 5, 6]


def test_a_full_queue_turns_requests_away() -> None:
    one, sequences = bench(rows=1, queue_limit=2)
    shut(sequences)
    with one:
        jobs = [one.submit([0], max_tokens=1)]
        wait_until(lambda: one.counted("requests_running") == 1)
        jobs += [one.submit([0], max_tokens=1) for _ in range(2)]
        assert one.counted("requests_waiting") == 2
        with pytest.raises(OverloadedError, match="2 requests wait for luminanet already"):
            one.submit([0])
        assert one.counted("requests_rejected_total", reason="overloaded") == 1
        sequences.gate.release(3)
        assert [one.read(job)[1] for job in jobs] == [Finish.LENGTH] * 3


def test_draining_refuses_the_new_and_finishes_the_old() -> None:
    one, sequences = bench(rows=1)
    shut(sequences)
    with one:
        old = [one.submit([0], max_tokens=2) for _ in range(2)]
        one.engine.drain()
        with pytest.raises(ShuttingDownError):
            one.submit([0])
        assert not one.engine.idle
        sequences.gate.release(9)
        assert [one.read(job) for job in old] == [("bc", Finish.LENGTH)] * 2
        wait_until(lambda: one.engine.idle)


def test_stopping_ends_what_runs_and_what_waits() -> None:
    one, sequences = bench(rows=1)
    shut(sequences)
    with one:
        jobs = [one.submit([0], max_tokens=9) for _ in range(2)]
        wait_until(lambda: one.counted("requests_running") == 1)
        one.engine.stop()
        sequences.gate.release(9)
        assert [one.read(job)[1] for job in jobs] == [Finish.SHUTDOWN] * 2
        one.engine.join()
        assert not one.engine.alive
        assert one.counted("requests_finished_total", finish_reason="shutdown") == 2


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("prompt", [[13], [20]], ids=["joining fails", "logits are no numbers"])
def test_a_request_that_fails_alone_ends_no_other(
    prompt: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = bench()
    with one:
        jobs = [one.submit(p, max_tokens=3) for p in ([0], prompt, [5])]
        read = [one.read(job) for job in jobs]
        assert read == [("bcd", Finish.LENGTH), ("", Finish.ERROR), ("ghi", Finish.LENGTH)]
        assert one.counted("requests_finished_total", finish_reason="error") == 1


def test_after_a_step_that_failed_the_engine_serves_on(caplog: pytest.LogCaptureFixture) -> None:
    one, sequences = bench()
    draw, failed = sequences.draw, threading.Event()

    def fail_once(rows: int, quick: bool = False) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("the device is gone")
        return draw(rows, quick)

    sequences.draw = fail_once  # type: ignore[method-assign]
    with one:
        assert one.read(one.submit([0])) == ("", Finish.ERROR)
        assert one.read(one.submit([0], max_tokens=2)) == ("bc", Finish.LENGTH)
        assert one.engine.alive
    assert "the device is gone" in caplog.text


def test_when_the_thread_dies_all_its_requests_fail_and_new_ones_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, sequences = bench(rows=1)
    begun, dying = threading.Event(), threading.Event()

    def die(*_: Any, **__: Any) -> Any:
        begun.set()
        assert dying.wait(TIMEOUT_S)
        raise SystemExit

    sequences.draw = die  # type: ignore[method-assign]
    with one:
        runs = one.submit([0])
        assert begun.wait(TIMEOUT_S)
        waits = one.submit([0])
        dying.set()
        assert [one.read(job) for job in (runs, waits)] == [("", Finish.ERROR)] * 2
        one.engine.join()
        with pytest.raises(UnavailableError, match="luminanet has died: restart the server"):
            one.submit([0])
        assert not one.engine.alive
        assert one.engine.idle, "or a drain would wait for it"
    assert "the engine died" in caplog.text


# ---------------------------------------------------------------------- metrics


def test_token_counts_and_histograms_after_known_traffic() -> None:
    one, sequences = bench()
    with one:
        for prompt, length in ([0], 4), ([1, 2, 3], 1):
            one.read(one.submit(prompt, max_tokens=length))
    assert one.counted("prompt_tokens_total") == 4
    assert one.counted("generation_tokens_total") == 5
    assert one.counted("time_to_first_token_seconds_count") == 2
    assert one.counted("inter_token_latency_seconds_count") == 3
    assert one.counted("time_per_output_token_seconds_count") == 1, "one token has no interval"
    assert one.counted("request_queue_seconds_count") == 2
    assert one.counted("inference_duration_seconds_count", phase="decode") == 5
    assert one.counted("batch_size_sum") == sum(sequences.batches) == 5
    assert one.counted("requests_finished_total", finish_reason="length") == 2
    assert one.counted("requests_running") == one.counted("requests_waiting") == 0
    assert one.counted("sequence_state_bytes") == 8


def test_the_tokens_of_a_call_are_timed_as_they_are_handed_over() -> None:
    one, sequences = bench(steps=4)
    shut(sequences)
    with one:
        job = one.submit([0], max_tokens=9)
        for call in range(1, 4):
            sequences.gate.release()
            wait_until(lambda call=call: len(sequences.batches) == call)  # type: ignore[misc]
        one.read(job)
    assert one.counted("inter_token_latency_seconds_count") == 8
    waited_s = one.counted("inter_token_latency_seconds_sum")
    assert waited_s == pytest.approx(job.last_s - job.first_s)
    at_once = one.counted("inter_token_latency_seconds_bucket", le="5e-05")
    assert 6 <= at_once < 8, "three of each call but the first come with others"
    assert one.counted("time_per_output_token_seconds_sum") == pytest.approx(waited_s / 8)
    whole_s = one.counted("time_to_first_token_seconds_sum") + waited_s
    assert whole_s == pytest.approx(job.last_s - job.arrived_s)
    assert one.counted("generation_tokens_total") == 9
    assert one.counted("inference_duration_seconds_count", phase="decode") == 3


def test_failed_requests_stay_out_of_the_token_histograms(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, _ = bench()
    with one:
        one.read(one.submit([20]))
    assert one.counted("time_to_first_token_seconds_count") == 0
    assert one.counted("inter_token_latency_seconds_count") == 0
    assert one.counted("generation_tokens_total") == 0


def test_the_first_token_is_timed_from_arrival_to_the_first_text_that_is_not_empty() -> None:
    one, sequences = bench()
    shut(sequences)
    with one:
        job: Generation = one.submit([0], max_tokens=4, stop=["bcx"])  # holds back two tokens
        sequences.gate.release(2)
        wait_until(lambda: len(sequences.batches) == 2)
        assert one.counted("time_to_first_token_seconds_count") == 0
        sequences.gate.release(2)
        one.read(job)
    assert one.counted("time_to_first_token_seconds_count") == 1
    total_s = one.counted("time_to_first_token_seconds_sum")
    assert job.first_s - job.arrived_s < total_s <= job.last_s - job.arrived_s


def test_the_time_before_a_request_is_queued_counts_for_its_first_token() -> None:
    one, _ = bench()
    with one:
        one.read(one.submit([0], arrived_s=perf_counter() - 100))
    assert one.counted("time_to_first_token_seconds_sum") > 100
    assert one.counted("request_queue_seconds_sum") < 100
