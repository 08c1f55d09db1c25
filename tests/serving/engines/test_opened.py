"""Opened rows: what is told of a text is what the numpy references say, in any company."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from luminanet.artifact.manifest import Family
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling, choose, log_softmax
from serving.engines.detokenize import Transcript
from serving.engines.job import Finish
from serving.engines.making import _rows
from serving.engines.opened import Opened, Wish
from serving.engines.sequences import Drawn
from serving.engines.text import Generation
from serving.models.load import Models, TextModel
from tests.serving.engines.test_sequences import FAMILIES, PROMPTS, WAYS, reference
from tests.serving.helpers import Alphabet, Bench

BIASED = Sampling(1.0, 30, 0.95, seed=5, logit_bias={7: 4.0, 8: -100.0})
FLOAT32 = 1e-4


def opened(model: TextModel, rows: int = 4, group: int = 1) -> Opened:
    return Opened(_rows(model, rows, group, opened=True), model.manifest.context)


def bench(model: TextModel, rows: int = 4, **options: Any) -> Bench:
    return Bench(_rows(model, rows, 1), rows, opened=opened(model, rows), **options)


@FAMILIES
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("group", [1, 2])
def test_opened_rows_join_move_and_leave_as_the_oracle_says(
    any_steps: dict[int, Models], family: Family, steps: int, group: int
) -> None:
    models = any_steps[steps]
    expected, state = reference(models, family), opened(models.text[family], group=group)
    context = models.text[family].manifest.context
    ways = (*WAYS[:3], BIASED)
    wishes = (Wish(), Wish(top=3), Wish(prompt=True), Wish(5, prompt=True))
    texts = [list(prompt) for prompt in PROMPTS]
    known = [len(text) if not wish.prompt else 1 for text, wish in zip(texts, wishes, strict=True)]
    rows: list[int] = []  # which text lies in which row

    def join(text: int) -> None:
        read = state.join(len(rows), PROMPTS[text], ways[text], wishes[text])
        computed = family is Family.GPT2 and len(PROMPTS[text]) > 1
        assert read == (computed and not wishes[text].prompt)
        rows.append(text)

    def draw() -> None:
        for text, (token, top, given) in zip(rows, state.draw(len(rows)), strict=True):
            written = texts[text][: known[text]]
            logs = log_softmax(expected(written))
            assert given == (known[text] < len(PROMPTS[text]))
            if given:
                assert token.id == PROMPTS[text][known[text]]
            else:
                position = known[text] - len(PROMPTS[text])
                chosen = choose(expected(written), written[-context:], ways[text], position)
                assert token.id == chosen.id
                texts[text].append(token.id)
            assert token.log_probability == pytest.approx(logs[token.id], abs=FLOAT32)
            best = np.argsort(-logs)[: wishes[text].top]
            assert [other.id for other in top] == best.tolist()
            np.testing.assert_allclose(
                [other.log_probability for other in top], logs[best], atol=FLOAT32
            )
            known[text] += 1

    for text in range(3):
        join(text)
    for _ in range(3):
        draw()
    state.move(2, 0)  # row 0 leaves, row 2 takes its place, a new one joins
    rows[:] = [rows[2], rows[1]]
    draw()
    join(3)
    for _ in range(4):
        draw()


@FAMILIES
def test_a_prompt_that_fills_the_context_is_told_to_its_last_token(
    models: Models, family: Family
) -> None:
    context = models.text[family].manifest.context
    expected, state = reference(models, family), opened(models.text[family])
    prompt = [(5 * n) % 250 for n in range(context)]
    state.join(0, prompt, Sampling(0), Wish(prompt=True))
    for at in range(1, context):
        ((token, _, given),) = state.draw(1)
        assert (token.id, given) == (prompt[at], True)
        log = log_softmax(expected(prompt[:at]))[prompt[at]]
        assert token.log_probability == pytest.approx(log, abs=FLOAT32)
    ((token, _, given),) = state.draw(1)
    assert (token.id, given) == (int(expected(prompt).argmax()), False)


def test_a_row_whose_logits_are_no_numbers_is_told_apart(models: Models) -> None:
    state = opened(models.text[Family.LUMINANET])
    breaks_first_row(state)
    for row in range(2):
        state.join(row, [1, 2], Sampling(0), Wish(1, prompt=True))
    for given in True, False:
        broken, whole = state.draw(2)
        assert (broken.token.id, broken.top, broken.given) == (NO_TOKEN, (), True)
        assert whole.token.id >= 0
        assert whole.given is given


def breaks_first_row(state: Opened) -> None:
    """From now on its logits are no numbers."""
    draw = state._state.draw

    def broken(rows: int, quick: bool = False) -> Drawn:
        drawn = draw(rows, quick)
        state._state.logits_BV[0] = np.nan
        return drawn

    state._state.draw = broken  # type: ignore[method-assign]


# ---------------------------------------------------------------------- in the engine


def submit(one: Bench, model: TextModel, prompt: Sequence[int], **options: Any) -> Generation:
    stops = options.pop("stop", ())
    unstopped = options.pop("unstopped", 0)
    job = Generation(
        prompt,
        Transcript(model.tokenizer.stream(), stops, unstopped),
        options.pop("sampling", Sampling(0)),
        options.pop("max_tokens", 5),
        0.0,
        **options,
    )
    one.engine.submit(job)
    return job


def drawn(one: Bench, job: Generation) -> tuple[list[int], list[float]]:
    """Ids and log-probabilities of a job's text."""
    pieces = [piece for piece in one.pieces(job) if not piece.of_prompt]
    logs = [log for piece in pieces for log in piece.logs if log is not None]
    return [token for piece in pieces for token in piece.ids], logs


@FAMILIES
def test_texts_are_the_same_whatever_is_told_and_in_whatever_company(
    models: Models, family: Family
) -> None:
    model = models.text[family]
    wishes = (Wish(), Wish(4), Wish(prompt=True), Wish(2, prompt=True))

    def text(one: Bench, wish: Wish, number: int) -> tuple[list[int], list[float]]:
        how = replace(WAYS[number], seed=number)
        job = submit(one, model, PROMPTS[number], sampling=how, max_tokens=9, wish=wish)
        return drawn(one, job)

    found = []
    for rows in 1, 5:
        with bench(model, rows, end_id=-1) as one, ThreadPoolExecutor(16) as pool:
            asked = [(one, wish, number) for wish in wishes for number in range(len(PROMPTS))]
            found.append(list(pool.map(text, *zip(*asked, strict=True))))
    (alone, together), count = found, len(PROMPTS)
    for number in range(count):
        for ids, logs in [row[n] for row in found for n in range(number, len(alone), count)]:
            assert ids == alone[number][0]
            np.testing.assert_allclose(logs, alone[number][1], atol=FLOAT32)
    assert together[count:] == alone[count:], "opened rows to the bit"


@FAMILIES
@pytest.mark.parametrize("prompt", [[7], [3, 3, 8, 1]])
@pytest.mark.parametrize("max_tokens", [0, 1, 4])
def test_a_prompt_is_told_once_and_before_its_text(
    models: Models, family: Family, prompt: list[int], max_tokens: int
) -> None:
    model = models.text[family]
    with bench(model, end_id=-1) as one:
        job = submit(one, model, prompt, max_tokens=max_tokens, wish=Wish(2, prompt=True))
        first, *others = one.pieces(job)
        assert one.counted("prompt_tokens_total") == len(prompt)
        assert one.counted("generation_tokens_total") == job.tokens == max_tokens
    assert (first.of_prompt, first.ids, first.text) == (True, prompt, "")
    assert (first.logs[0], first.tops[0]) == (None, ())
    assert all(log is not None and log < 0 for log in first.logs[1:])
    assert [len(top) for top in first.tops[1:]] == [2] * (len(prompt) - 1)
    assert not any(piece.of_prompt for piece in others)
    assert sum(len(piece.tops) for piece in others) == max_tokens
    assert others[-1].finish is Finish.LENGTH


def test_nothing_is_computed_for_no_tokens(models: Models) -> None:
    model = models.text[Family.GPT2]
    with bench(model) as one:
        (piece,) = one.pieces(submit(one, model, [1, 2], max_tokens=0))
        assert one.engine.idle
    assert (piece.finish, piece.ids) == (Finish.LENGTH, ())
    assert one.counted("prompt_tokens_total") == 0


@FAMILIES
def test_the_end_is_held_back_or_passed_over(models: Models, family: Family) -> None:
    model = models.text[family]
    ending = Sampling(0, logit_bias={7: 100.0}, end_id=7)
    with bench(model, end_id=7) as one:
        ended = submit(one, model, [1], sampling=ending)
        held = submit(one, model, [1], sampling=replace(ending, min_tokens=3), max_tokens=9)
        passed = submit(one, model, [1], sampling=ending, ignore_eos=True)
        assert drawn(one, ended)[0] == [7]
        ids = drawn(one, held)[0]
        assert 7 not in ids[:3]
        assert ids[3:] == [7]
        assert drawn(one, passed)[0] == [7] * 5


def test_stop_strings_do_not_count_before_min_tokens() -> None:
    transcript = Transcript(Alphabet(), ["b", "bb"], 2)  # type: ignore[arg-type]
    assert [transcript.push(1) for _ in range(3)] == [("b", False)] * 2 + [("", True)]


@FAMILIES
def test_a_prompt_whose_logits_are_no_numbers_ends_its_request_alone(
    models: Models, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    model = models.text[family]
    one = bench(model, end_id=-1)
    breaks_first_row(one.engine._opened)
    first = submit(one, model, [1, 2, 3], wish=Wish(prompt=True))
    second = submit(one, model, [1, 2, 3], wish=Wish(prompt=True))
    plain = submit(one, model, [1, 2, 3])
    with one:
        assert one.pieces(first)[-1].finish is Finish.ERROR
        assert one.pieces(plain)[-1].finish is Finish.LENGTH
        # the second took the place of the first, whose logits are broken
        assert one.pieces(second)[-1].finish is Finish.ERROR
    assert caplog.text.count("a prompt's logits are not finite") == 2


def test_a_cancelled_prompt_leaves_before_it_is_read_to_its_end(models: Models) -> None:
    model = models.text[Family.GPT2]
    one = bench(model, end_id=-1)
    job = submit(one, model, [1] * 20, wish=Wish(prompt=True))
    state = one.engine._opened._state
    draw, calls = state.draw, []

    def counted(rows: int, quick: bool = False) -> Drawn:
        calls.append(rows)
        if len(calls) == 3:
            job.cancel()
        return draw(rows, quick)

    state.draw = counted  # type: ignore[method-assign]
    with one:
        (piece,) = one.pieces(job)
    assert piece.finish is Finish.CANCELLED
    assert calls == [1, 1, 1]


def test_running_texts_wait_for_one_token_of_a_prompt_at_a_time(models: Models) -> None:
    model = models.text[Family.LUMINANET]
    one = bench(model, end_id=-1)
    calls: list[str] = []

    def noted(sequences: Any, name: str) -> None:
        draw = sequences.draw

        def noting(*asked: Any, **options: Any) -> Any:
            calls.append(name)
            return draw(*asked, **options)

        sequences.draw = noting

    noted(one.engine._sequences, "plain")
    noted(one.engine._opened, "opened")
    plain = submit(one, model, [1], max_tokens=100)
    scored = submit(one, model, [1] * 16, max_tokens=0, wish=Wish(prompt=True))
    with one:
        assert one.pieces(scored)[-1].finish is Finish.LENGTH
        assert one.pieces(plain)[-1].finish is Finish.LENGTH
    assert calls[:30] == ["plain", "opened"] * 15
    assert set(calls[30:]) == {"plain"}


def test_a_failing_step_ends_all_rows_and_the_next_requests_begin_anew(models: Models) -> None:
    model = models.text[Family.LUMINANET]
    one = bench(model, end_id=-1)
    state = one.engine._opened._state
    draw = state.draw

    def fails_once(rows: int, quick: bool = False) -> Drawn:
        state.draw = draw  # type: ignore[method-assign]
        raise RuntimeError("the device is gone")

    state.draw = fails_once  # type: ignore[method-assign]
    jobs = [submit(one, model, [1], wish=wish, max_tokens=50) for wish in (Wish(), Wish(1))]
    with one:
        assert [one.pieces(job)[-1].finish for job in jobs] == [Finish.ERROR] * 2
        again = [submit(one, model, [1], wish=wish) for wish in (Wish(), Wish(1))]
        assert [one.pieces(job)[-1].finish for job in again] == [Finish.LENGTH] * 2
