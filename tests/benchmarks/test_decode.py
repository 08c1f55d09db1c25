"""The benchmark of decoding runs on small networks, and sees texts that differ."""

from collections.abc import Callable

import pytest

from benchmarks.decode import same_texts, timed, variants
from benchmarks.decoders import Gpt2, LuminaNet, Model
from luminanet.gpt2 import Gpt2Config
from luminanet.sampling import Sampling
from tests.nets import random_gpt2, random_weights, tiny_text_topology

PROMPTS = [[1, 2, 3], [4], [5, 6]]


def gpt2(seed: int) -> Model:
    return Gpt2(random_gpt2(seed, Gpt2Config(60, context=128, width=16, heads=2)))


def luminanet(seed: int) -> Model:
    return LuminaNet(random_weights(tiny_text_topology(60), seed))


@pytest.mark.parametrize("make", [gpt2, luminanet])
def test_all_variants_are_timed(make: Callable[[int], Model]) -> None:
    calls = variants(make(1), Sampling(0.8, top_p=0.95), batch=2, position=16)
    found = timed(calls, rounds=1)
    assert set(found) == {"numpy", "K=1", "K=4", "K=8"}
    assert min(found.values()) > 0


@pytest.mark.parametrize("make", [gpt2, luminanet])
def test_prompts_with_one_text_are_counted(make: Callable[[int], Model]) -> None:
    model, sampling = make(1), Sampling(0.8, top_p=0.95)
    assert same_texts(model, PROMPTS, sampling) == len(PROMPTS)
    model.decoders[8] = make(2).decoders[8]
    assert same_texts(model, PROMPTS, sampling) < len(PROMPTS)
