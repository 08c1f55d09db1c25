"""The concatenated cache that the baseline is compared with is a true GPT-2, and is timed."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import gpt2_cache
from benchmarks.concat_gpt2 import unroll_concat_gpt2
from benchmarks.gpt2_cache import compare, concatenated, in_place, main, state
from export.gpt2.cached import unroll_gpt2
from luminanet.errors import VerificationError
from luminanet.gpt2 import Gpt2Config, forward
from tests.nets import random_gpt2, tiny_tokenizer
from training.checkpoint import Checkpoint, save

NET = random_gpt2(0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(8, 1), (12, 3), (16, 4)]), st.integers(1, 3))
def test_a_text_read_token_by_token_gives_the_logits_of_the_reference(
    seed: int, shape: tuple[int, int], layers: int
) -> None:
    width, heads = shape
    net = random_gpt2(seed, Gpt2Config(30, context=9, width=width, heads=heads, layers=layers))
    session = onnxruntime.InferenceSession(
        unroll_concat_gpt2(net).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    tokens = np.random.default_rng(seed).integers(0, 30, (3, 9))
    expected, feeds = forward(net, tokens), state(net, 3, past=0)
    for at in range(9):
        feeds["token_ids"] = tokens[:, at : at + 1]
        found = dict(zip(names, session.run(names, feeds), strict=True))
        assert np.abs(found.pop("logits") - expected[:, at]).max() < 1e-5
        feeds |= {name.replace("present_", "past_"): array for name, array in found.items()}


def test_its_operators_are_standard() -> None:
    model = unroll_concat_gpt2(NET)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.domain for opset in model.opset_import] == [""]


@pytest.mark.parametrize("past", [0, 5, 15])
def test_both_forms_give_the_same_logits_and_the_same_keys(past: int) -> None:
    given_state = state(NET, 3, past)
    before = [
        (given_state[f"past_keys.{n}"], given_state[f"past_values.{n}"])
        for n in range(NET.config.layers)
    ]
    expected = forward(NET, given_state["token_ids"], before)[:, -1]
    for form, model in ((in_place, unroll_gpt2(NET)), (concatenated, unroll_concat_gpt2(NET))):
        step, logits = form(NET, model, given_state)
        for _ in range(2):  # a step may be repeated: it writes what it wrote before
            step()
            assert np.abs(logits - expected).max() < 1e-5


@pytest.mark.parametrize("is_int8", [False, True])
def test_both_are_timed(is_int8: bool) -> None:
    assert min(compare(NET, batch=4, past=7, is_int8=is_int8, rounds=1)) > 0


def test_forms_that_are_apart_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = unroll_concat_gpt2(random_gpt2(1))
    monkeypatch.setattr(gpt2_cache, "unroll_concat_gpt2", lambda _: other)
    with pytest.raises(VerificationError, match="nothing is timed"):
        compare(NET, batch=2, past=7, is_int8=False, rounds=1)


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, out = tiny_tokenizer(), tmp_path / "page.md"
    config = Gpt2Config(tokenizer.vocab_size, context=70, width=16, heads=2)
    checkpoint = Checkpoint("gpt2", random_gpt2(0, config), tokenizer.to_json())
    assert main([str(tmp_path), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    save(tmp_path / "gpt2-tinystories" / "ckpt.pt", checkpoint)
    assert main([str(tmp_path), "--rounds", "1", "--out", str(out)]) == 0
    lines = re.findall(r"^\| (fp32|int8) \| (\d+) \| (\d+) \|", out.read_text(), re.MULTILINE)
    assert [line[1:] for line in lines] == [
        ("1", "16"),
        ("1", "64"),
        ("32", "16"),
        ("32", "64"),
    ] * 2
