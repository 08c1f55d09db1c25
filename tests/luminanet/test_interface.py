"""Names, types and shapes by family and role, and the way of a cache from present to past."""

from dataclasses import replace

import numpy as np
import pytest

from luminanet import interface
from luminanet.artifact.manifest import Family, Manifest, Role, Task
from luminanet.gpt2 import Gpt2Config
from luminanet.interface import IMAGE_SHAPE, CacheGraphs, ImageGraphs, Tensor, WindowGraphs
from luminanet.sampling import INPUTS, Sampling, asked_rows
from tests.nets import random_gpt2, random_net

GPT2 = CacheGraphs(context=16, vocab_size=50, layers=2, heads=3, width=4)
WINDOWS = WindowGraphs(context=16, vocab_size=50)
IMAGES = ImageGraphs((3, 32, 32), 10)
TEXT = Manifest("a", Task.GENERATION, Family.LUMINANET, "s", 1, 1, context=16, vocab_size=50)


def test_a_cache_is_named_layer_by_layer_keys_before_values() -> None:
    names = ("past_keys.0", "past_values.0", "past_keys.1", "past_values.1")
    assert GPT2.pasts == names
    assert tuple(GPT2.empty(5)) == names
    assert {a.shape for a in GPT2.empty(5).values()} == {(5, 3, 16, 4)}


def test_a_gpt2_gives_logits_and_then_its_cache() -> None:
    inputs, outputs = GPT2.logits()
    assert [t.name for t in inputs] == ["token_ids", "past_lengths", *GPT2.pasts]
    present = [name.replace("past", "present") for name in GPT2.pasts]
    assert [t.name for t in outputs] == ["logits", *present]
    assert Tensor("present_values.1", "float32", (None, 3, 16, 4)) in outputs


def test_a_gpt2_that_decodes_gives_its_cache_after_every_step() -> None:
    inputs, outputs = GPT2.decode(2)
    own = ["token_ids", "past_lengths", "tokens_read"]
    assert [t.name for t in inputs] == [*own, *GPT2.pasts, *INPUTS]
    named = [f"present_{part}.{n}.{t}" for t in (0, 1) for n in (0, 1) for part in interface.PARTS]
    drawn = ["sampled_ids", "log_probabilities", "next_token_ids"]
    assert [t.name for t in outputs] == [*drawn, *named]
    assert outputs[0] == Tensor("sampled_ids", "int64", (None, 2))


def test_windows_are_told_how_many_tokens_to_draw() -> None:
    inputs, outputs = WINDOWS.decode()
    assert inputs[1] == Tensor("steps", "int64", ())
    assert outputs[0] == Tensor("sampled_ids", "int64", (None, None))


@pytest.mark.parametrize("steps", [None, 1, 3])
def test_every_present_lies_in_the_memory_of_its_past(steps: int | None) -> None:
    cache = GPT2.empty(2)
    found = interface.presents(cache, steps)
    assert len(found) == len(cache) * (1 if steps is None else steps)
    written = (GPT2.logits() if steps is None else GPT2.decode(steps)).outputs
    assert [t.name for t in written if t.name.startswith("present")] == list(found)
    for name, array in found.items():
        part, layer = name.removeprefix("present_").split(".")[:2]
        assert array is cache[f"past_{part}.{layer}"]


def test_what_a_run_gives_is_the_cache_of_the_next() -> None:
    cache = GPT2.empty(1)
    found = {"logits": np.zeros(1), **interface.presents(cache)}
    assert interface.carried(found) == cache
    assert list(interface.carried(found)) == list(cache)


def test_lengths_are_no_part_of_a_cache() -> None:
    feeds = GPT2.feeds(np.zeros((2, 3), np.int64))
    assert tuple(interface.cache_of(feeds)) == GPT2.pasts
    assert not interface.cache_of(WINDOWS.feeds(np.zeros((2, 16), np.int64)))


@pytest.mark.parametrize("graphs", [IMAGES, WINDOWS, GPT2])
def test_feeds_are_the_inputs_of_a_graph_in_their_order(graphs: interface.Graphs) -> None:
    sizes = IMAGE_SHAPE if isinstance(graphs, ImageGraphs) else (16,)
    dtype = np.float32 if isinstance(graphs, ImageGraphs) else np.int64
    feeds = graphs.feeds(np.zeros((2, *sizes), dtype))
    wanted = graphs.logits().inputs
    assert list(feeds) == [t.name for t in wanted]
    for tensor, array in zip(wanted, feeds.values(), strict=True):
        assert array.dtype == tensor.dtype
        assert len(array.shape) == len(tensor.shape)
        free = zip(tensor.shape[1:], array.shape[1:], strict=True)
        assert all(size in (None, found) for size, found in free), tensor


def test_the_sampler_is_asked_by_the_names_and_types_of_its_inputs() -> None:
    rows = asked_rows([Sampling(), Sampling(top_k=3)])
    assert [(n, a.dtype.name) for n, a in rows.items()] == [
        (t.name, t.dtype) for t in interface.SAMPLER
    ]


def test_a_row_is_bound_to_what_a_graph_takes_and_gives() -> None:
    assert IMAGES.row_bytes == 4 * (3 * 32 * 32 + 10)
    assert WINDOWS.row_bytes == 8 * 16 + 4 * 50
    cache = sum(array.nbytes for array in GPT2.empty(1).values())
    assert GPT2.row_bytes == cache + WINDOWS.row_bytes


def test_a_network_and_its_manifest_ask_for_the_same() -> None:
    net = random_gpt2(1, Gpt2Config(vocab_size=50, context=16, width=12, heads=3, layers=2))
    manifest = replace(TEXT, family=Family.GPT2, heads=3, layers=2, head_width=4)
    assert interface.of(net) == interface.of(manifest) == GPT2
    assert interface.interface(manifest, Role.DECODE, 4) == GPT2.decode(4)
    assert interface.interface(TEXT) == WINDOWS.logits()
    text = interface.of(random_net(1, text=True))
    assert isinstance(text, WindowGraphs)
    sized = replace(TEXT, context=text.context, vocab_size=text.vocab_size)
    assert interface.of(sized) == text


def test_an_artifact_of_images_has_a_class_for_each_label() -> None:
    manifest = replace(TEXT, task=Task.CLASSIFICATION, labels=("cat", "dog"))
    assert interface.of(manifest) == ImageGraphs(IMAGE_SHAPE, 2)
