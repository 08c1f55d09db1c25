"""The state between two calls: the same tokens alone and in a batch, and as the numpy references
and the oracle of the sampler say."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from luminanet.artifact.manifest import Family
from luminanet.gpt2 import Gpt2Config
from luminanet.gpt2 import forward as gpt2_forward
from luminanet.reference import NO_TOKEN
from luminanet.reference import forward as luminanet_forward
from luminanet.sampling import Sampling, choose
from serving.engines.sequences import (
    GROUPS,
    Caches,
    Sequences,
    Windows,
    batch_sizes,
    rows_agree,
    warm_up,
)
from serving.models.load import Models, load
from tests.nets import random_gpt2, random_weights, tiny_text_topology, write_tiny_artifacts

PROMPTS = ([5, 9, 2], [7], [3, 3, 8, 1, 200, 4], [11, 250])
WAYS = (
    Sampling(0),
    Sampling(1.0, 20, seed=3),
    Sampling(0.7, top_p=0.9, min_p=0.02, seed=4),
    Sampling(0.9, repetition_penalty=1.5, seed=2**63 - 1),
)
FAMILIES = pytest.mark.parametrize("family", [Family.LUMINANET, Family.GPT2])
Logits = Callable[[Sequence[int]], NDArray[np.float64]]


def sequences(models: Models, family: Family, rows: int = 4, group: int = 1) -> Sequences:
    model = models.text[family]
    steps = model.how.steps
    if model.prompts is None:
        return Windows(model.backend, model.manifest, rows, steps, group)
    return Caches(model.backend, model.prompts, model.manifest, rows, steps, group)


def reference(models: Models, family: Family) -> Logits:
    """Logits after a text, by numpy."""
    manifest = models.text[family].manifest
    if family is Family.GPT2:
        width = manifest.heads * manifest.head_width
        config = Gpt2Config(manifest.vocab_size, manifest.context, width, manifest.heads)
        gpt2 = random_gpt2(0, config)
        return lambda tokens: gpt2_forward(gpt2, np.array([tokens]))[0, -1]
    net = random_weights(tiny_text_topology(manifest.vocab_size))

    def logits(tokens: Sequence[int]) -> NDArray[np.float64]:
        window = ([NO_TOKEN] * manifest.context + list(tokens))[-manifest.context :]
        return np.asarray(luminanet_forward(net, np.array([window]))[0])

    return logits


@FAMILIES
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("group", [1, 2])
def test_rows_that_join_move_and_leave_go_on_as_the_oracle_says(
    any_steps: dict[int, Models], family: Family, steps: int, group: int
) -> None:
    models = any_steps[steps]
    expected, state = reference(models, family), sequences(models, family, 4, group)
    context = models.text[family].manifest.context
    texts = [list(prompt) for prompt in PROMPTS]
    rows: list[int] = []  # which text lies in which row

    def join(text: int) -> None:
        computed = state.join(len(rows), texts[text], WAYS[text])
        assert computed == (family is Family.GPT2 and len(texts[text]) > 1)
        rows.append(text)

    def draw() -> None:
        drawn = state.draw(len(rows))
        assert drawn.ids_BK.shape == drawn.logs_BK.shape == (len(rows), steps)
        for row, text in enumerate(rows):
            for token, log in zip(drawn.ids_BK[row], drawn.logs_BK[row], strict=True):
                written = texts[text]
                seen = written[-context:] if family is Family.LUMINANET else written
                position = len(written) - len(PROMPTS[text])
                chosen = choose(expected(written), seen, WAYS[text], position)
                assert token == chosen.id
                assert log == pytest.approx(chosen.log_probability, abs=1e-4)
                written.append(int(token))

    for text in range(3):
        join(text)
    draw()
    draw()
    state.move(2, 0)  # row 0 leaves, row 2 takes its place, a new one joins
    rows[:] = [rows[2], rows[1]]
    draw()
    join(3)
    draw()


def test_a_graph_of_one_token_is_called_as_often_as_a_graph_of_several_draws(
    any_steps: dict[int, Models], tmp_path: Path
) -> None:
    write_tiny_artifacts(tmp_path, decode=(1,))
    called, written_out = load(tmp_path, threads=1, steps=4), any_steps[4]
    found = []
    for models in (called, written_out):
        state = sequences(models, Family.GPT2, 4)
        for row, (prompt, way) in enumerate(zip(PROMPTS, WAYS, strict=True)):
            state.join(row, prompt, way)
        found.append([[array.copy() for array in state.draw(4)] for _ in range(2)])
    for ours, theirs in zip(*found, strict=True):
        assert ours[0].shape == (4, 4)
        for array, expected in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_a_cache_of_few_rows_gives_the_memory_of_the_others_back(models: Models) -> None:
    state = sequences(models, Family.GPT2, 8)
    assert isinstance(state, Caches)
    given: list[tuple[int, int]] = []
    state._pages.give_back = lambda *rows: given.append(rows)  # type: ignore[method-assign]
    for row in range(8):
        state.join(row, [1, 2, 3], Sampling(0))
    for rows in (8, 5, 4, 2, 1, 1):
        state.draw(rows)
    assert given == [(4, 8), (2, 4)]


def test_a_window_never_fills_and_forgets_what_is_older_than_the_context(models: Models) -> None:
    state = sequences(models, Family.LUMINANET, 2)
    context = models.text[Family.LUMINANET].manifest.context
    state.join(0, [1] * context, Sampling(0))
    written = [*([1] * context)]
    for _ in range(context):
        written += state.draw(1).ids_BK[0].tolist()
    state.join(1, written[-context:], Sampling(0))
    ids = state.draw(2).ids_BK
    np.testing.assert_array_equal(ids[0], ids[1])
    assert state.room(context) > 10**12


def test_a_cache_has_room_for_one_token_more_than_free_positions(models: Models) -> None:
    context = models.text[Family.GPT2].manifest.context
    state = sequences(models, Family.GPT2, 2)
    assert state.room(context) == 1
    assert state.room(1) == context
    state.join(0, [1] * context, Sampling(0))
    state.join(1, [1] * 3, Sampling(0))
    first = state.draw(2).ids_BK[0, 0]
    assert first == reference(models, Family.GPT2)([1] * context).argmax()


@FAMILIES
def test_a_full_row_disturbs_no_neighbour(models: Models, family: Family) -> None:
    context = models.text[family].manifest.context

    def drawn(company: bool) -> NDArray[np.int64]:
        state = sequences(models, family, 2)
        state.join(0, PROMPTS[2], WAYS[1])
        if company:
            state.join(1, [2] * context, WAYS[2])
        calls = [state.draw(1 + company).ids_BK[0].copy() for _ in range(3)]
        return np.concatenate(calls)

    np.testing.assert_array_equal(drawn(company=True), drawn(company=False))


@FAMILIES
def test_warming_up_leaves_no_trace_in_what_follows(models: Models, family: Family) -> None:
    def first_tokens(warm: bool) -> list[Any]:
        state = sequences(models, family, 40)
        if warm:
            warm_up(state, models.text[family].manifest.context, 40)
        state.join(0, [4, 2], Sampling(1.0, seed=1))
        return [array.copy() for array in state.draw(1)]

    for warm, cold in zip(first_tokens(True), first_tokens(False), strict=True):
        np.testing.assert_array_equal(warm, cold)


# ---------------------------------------------------------------------- groups of rows


@FAMILIES
@pytest.mark.parametrize("group", GROUPS)
def test_in_float32_rows_agree_in_any_batch_and_group(
    models: Models, family: Family, group: int
) -> None:
    state = sequences(models, family, 9, group)
    assert rows_agree(state, models.text[family].manifest.vocab_size, 9)


class Uneven:
    """Sequences as of kernels that compute the rows of whole groups of `tile` otherwise."""

    bytes_per_sequence = 0

    def __init__(self, tile: int, group: int) -> None:
        self.tile, self.group = tile, group

    def join(self, row: int, prompt: Sequence[int], how: Sampling) -> bool:  # noqa: ARG002
        return False

    def draw(self, rows: int, quick: bool = False) -> Any:  # noqa: ARG002
        computed = -(-rows // self.group) * self.group
        together = np.arange(rows) < computed // self.tile * self.tile
        return np.zeros((rows, 1), np.int64), together[:, None].astype(np.float32)

    def room(self, prompt: int) -> int:  # noqa: ARG002
        return 1

    def move(self, source: int, target: int) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("tile", GROUPS)
def test_rows_that_a_kernel_computes_together_agree_in_groups_of_that_size(tile: int) -> None:
    agreeing = [group for group in GROUPS if rows_agree(Uneven(tile, group), 300, 17)]
    assert agreeing == [group for group in GROUPS if group >= tile]


def test_all_small_batches_are_tried_and_the_largest() -> None:
    assert list(batch_sizes(5)) == [1, 2, 3, 4, 5]
    assert list(batch_sizes(1000))[:64] == list(range(1, 65))
    assert list(batch_sizes(1000))[64:] == [*range(128, 1000, 64), 1000]
