"""The state between two tokens: same logits alone and in a batch, against the numpy references."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from luminanet.gpt2 import Gpt2Config
from luminanet.gpt2 import forward as gpt2_forward
from luminanet.manifest import Family
from luminanet.reference import NO_TOKEN
from luminanet.reference import forward as luminanet_forward
from serving.decoding import Caches, Sequences, Windows, warm_up
from serving.models import Models
from tests.nets import random_gpt2, random_weights, tiny_text_topology

PROMPTS = ([5, 9, 2], [7], [3, 3, 8, 1, 200, 4], [11, 250])
STEPS = 6


def sequences(models: Models, family: Family, rows: int = 4) -> Sequences:
    kind = Windows if family is Family.LUMINANET else Caches
    made: Sequences = kind(models.text[family].backend, models.text[family].manifest, rows)
    return made


def luminanet_reference(models: Models) -> Callable[[list[int]], NDArray[np.float64]]:
    manifest = models.text[Family.LUMINANET].manifest
    net = random_weights(tiny_text_topology(manifest.vocab_size))

    def logits(tokens: list[int]) -> NDArray[np.float64]:
        window = ([NO_TOKEN] * manifest.context + tokens)[-manifest.context :]
        return np.asarray(luminanet_forward(net, np.array([window]))[0])

    return logits


def gpt2_reference(models: Models) -> Callable[[list[int]], NDArray[np.float64]]:
    manifest = models.text[Family.GPT2].manifest
    config = Gpt2Config(
        manifest.vocab_size, manifest.context, manifest.heads * manifest.head_width, manifest.heads
    )
    net = random_gpt2(0, config)
    return lambda tokens: gpt2_forward(net, np.array([tokens]))[0, -1]


@pytest.mark.parametrize(
    ("family", "reference"),
    [(Family.LUMINANET, luminanet_reference), (Family.GPT2, gpt2_reference)],
)
def test_rows_that_join_move_and_leave_keep_the_logits_of_the_reference(
    models: Models,
    family: Family,
    reference: Callable[[Models], Callable[[list[int]], NDArray[np.float64]]],
) -> None:
    expected, state = reference(models), sequences(models, family)
    tokens = [list(prompt) for prompt in PROMPTS]

    def check(rows: NDArray[np.float32], texts: list[list[int]]) -> None:
        for row, text in zip(rows, texts, strict=True):
            np.testing.assert_allclose(row, expected(text), rtol=1e-4, atol=1e-4)

    def joined(row: int) -> None:
        logits = state.join(row, tokens[row])
        if logits is not None:  # a cache: the prompt's logits come at once
            check(logits[None], [tokens[row]])
            append(row)

    def append(row: int) -> None:
        token = int(expected(tokens[row]).argmax())
        state.append(row, token)
        tokens[row].append(token)

    for row in range(3):
        joined(row)
    for _ in range(STEPS):
        check(state.step(len(tokens[:3])), tokens[:3])
        for row in range(3):
            append(row)
    state.move(2, 0)  # row 0 leaves, row 2 takes its place, a new one joins
    tokens = [tokens[2], tokens[1], list(PROMPTS[3])]
    joined(2)
    check(state.step(3), tokens)


def test_a_window_never_fills_and_forgets_what_is_older_than_the_context(models: Models) -> None:
    state = sequences(models, Family.LUMINANET, 1)
    context = models.text[Family.LUMINANET].manifest.context
    state.join(0, [1])
    for _ in range(context):
        state.append(0, 2)
    after_one = state.step(1).copy()
    state.join(0, [2] * context)
    np.testing.assert_array_equal(state.step(1), after_one)
    assert not state.is_full(0)


def test_a_cache_is_full_when_every_position_is_taken(models: Models) -> None:
    state = sequences(models, Family.GPT2, 1)
    context = models.text[Family.GPT2].manifest.context
    state.join(0, [1] * (context - 1))
    assert not state.is_full(0)
    state.append(0, 1)
    state.step(1)
    assert state.is_full(0)


@pytest.mark.parametrize("family", [Family.LUMINANET, Family.GPT2])
def test_warming_up_leaves_no_trace_in_what_follows(models: Models, family: Family) -> None:
    def first_logits(warm: bool) -> NDArray[np.float32]:
        state = sequences(models, family, 40)
        if warm:
            warm_up(state, models.text[family].manifest.context, 40)
        logits = state.join(0, [4, 2])
        return (state.step(1)[0] if logits is None else logits).copy()

    np.testing.assert_array_equal(first_logits(warm=True), first_logits(warm=False))
