"""Probes: read as strictly as a manifest, and a distance that tells right from wrong."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from luminanet.artifact.manifest import Family, GraphEntry, Manifest, Precision, Role, Task
from luminanet.artifact.probes import Probes, drawn_ratio, from_json, largest, logits_ratio, typical
from luminanet.errors import ArtifactError

FP32 = GraphEntry(Precision.FP32, "bus", "why", nodes=1, verified_within=1e-4)
INT8 = replace(FP32, precision=Precision.INT8, verified_within=0.06)
DRAWN = replace(FP32, role=Role.DECODE, steps=0)
IMAGE = Manifest("image", Task.CLASSIFICATION, Family.LUMINANET, "s", 1, 1, labels=("a", "b"))
TEXT = Manifest(
    "text",
    Task.GENERATION,
    Family.LUMINANET,
    "s",
    1,
    1,
    context=3,
    vocab_size=4,
    graphs={"model.onnx": FP32, "model.int8.onnx": INT8, "decode.onnx": DRAWN},
)
GPT2 = replace(TEXT, family=Family.GPT2, context=8)
LOGITS = np.array([[4.0, 1.0, 0.0, -2.0], [0.0, 0.0, 3.0, 1.0]])


def log_softmax(logits: Any) -> Any:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


LOGS = np.stack([log_softmax(LOGITS)[[0, 1], [0, 2]], [-0.5, -0.25]], 1)
WINDOWS = Probes(np.array([[-1, 0, 3], [1, 2, 3]]), LOGITS, np.array([[0, 1], [2, 3]]), LOGS)
NOTHING = np.zeros((1, 0))
PIXELS = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(1, 3, 2, 2)
PICTURES = Probes(PIXELS, np.array([[0.5, -1.25]]), NOTHING.astype(np.int64), NOTHING)


@pytest.mark.parametrize(("probes", "manifest"), [(WINDOWS, TEXT), (PICTURES, IMAGE)])
def test_what_was_written_is_read(probes: Probes, manifest: Manifest) -> None:
    found = from_json(probes.to_json(), manifest, "probes.json")
    for name in ("inputs", "logits", "drawn", "log_probabilities"):
        one, other = getattr(found, name), getattr(probes, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert found.to_json() == probes.to_json()
    assert from_json(found.part(1).to_json(), manifest, "").inputs.shape[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [[0, 1, 2]]},
        {"inputs": [[0, 1, 2], [0, 1, 4]]},
        {"inputs": [[0, 1, 2], [0, 1, -2]]},
        {"inputs": [[0, 1, 2], [0, 1]]},
        {"inputs": [[0.5, 1, 2], [0, 1, 1]]},
        {"inputs": [[0, 1], [0, 1]]},
        {"inputs": "aaaa"},
        {"inputs": None},
        {"inputs": []},
        {"inputs": [[True, True, True]] * 2},
        {"inputs": [[10**30, 1, 2], [0, 1, 2]]},
        {"logits": [[1, 2, 3, 4]]},
        {"logits": [[1, 2, 3]] * 2},
        {"logits": [["1", 2, 3, 4]] * 2},
        {"logits": [[10**400, 2, 3, 4]] * 2},
        {"logits": 1},
        {"drawn": [[0], [1]]},
        {"drawn": [[], []], "log_probabilities": [[], []]},
        {"drawn": [[4, 1], [0, 1]]},
        {"drawn": [0, 1], "log_probabilities": [0, 1]},
        {"log_probabilities": [[None, 1], [1, 1]]},
        {"more": 1},
    ],
)
def test_what_does_not_fit_the_network_is_refused(change: dict[str, Any]) -> None:
    body = json.loads(WINDOWS.to_json()) | change
    with pytest.raises(ArtifactError, match=r"here/probes.json is damaged \(.*freeze the"):
        from_json(json.dumps(body), TEXT, "here/probes.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "NaN", "\x00", "[" * 100_000])
def test_what_is_no_probes_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="is damaged"):
        from_json(text, TEXT, "probes.json")


def test_prompts_of_a_gpt2_have_no_gaps_and_fit_its_context() -> None:
    with pytest.raises(ArtifactError, match="inputs are"):
        from_json(WINDOWS.to_json(), GPT2, "probes.json")
    whole = replace(WINDOWS, inputs=np.ones((2, 8), np.int64))
    assert from_json(whole.to_json(), GPT2, "probes.json").inputs.shape == (2, 8)
    with pytest.raises(ArtifactError, match="inputs are"):
        from_json(whole.to_json(), replace(GPT2, context=7), "probes.json")


def test_a_graph_is_as_far_off_as_its_precision_measures() -> None:
    off = LOGITS + 1e-4
    assert logits_ratio(WINDOWS, FP32, off) == pytest.approx(0.25, rel=1e-6)
    assert largest(off, LOGITS) == pytest.approx(0.25e-4, rel=1e-6)
    assert logits_ratio(WINDOWS, INT8, LOGITS * 1.12) == pytest.approx(2, rel=1e-6)
    assert typical(LOGITS * 1.12, LOGITS) == pytest.approx(0.12, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_outside_any_bound(bad: float) -> None:
    found = LOGITS.copy()
    found[0, 0] = bad
    assert logits_ratio(WINDOWS, FP32, found) == np.inf
    assert logits_ratio(WINDOWS, FP32, LOGITS[:1]) == np.inf


def ratio(ids: Any, logs: Any, precision: Precision = Precision.FP32) -> float:
    entry = replace(DRAWN, precision=precision)
    return drawn_ratio(WINDOWS, TEXT, entry, np.array(ids), np.array(logs))


def test_tokens_of_the_reference_with_its_probabilities_are_right() -> None:
    assert ratio(WINDOWS.drawn, LOGS) == pytest.approx(0, abs=1e-9)
    assert ratio(WINDOWS.drawn, LOGS + 3e-4 * 4) == pytest.approx(1, rel=1e-6)
    assert ratio(WINDOWS.drawn, LOGS + 0.1, Precision.INT8) < 1
    assert ratio(WINDOWS.drawn, LOGS + 1.0, Precision.INT8) > 1


def test_a_first_token_that_is_not_the_likeliest_is_wrong_by_what_it_lacks() -> None:
    known = log_softmax(LOGITS)
    logs = [[known[0, 1], 0.0], LOGS[1]]
    assert ratio([[1, 0], [2, 3]], logs) > 1000
    assert ratio([[1, 0], [2, 3]], logs, Precision.INT8) > 1


def test_texts_are_compared_as_long_as_they_agree() -> None:
    assert ratio([[0, 3], [2, 3]], [[LOGS[0, 0], -9.0], LOGS[1]]) == pytest.approx(0, abs=1e-9)
    more = np.hstack([LOGS, [[-9.0], [-9.0]]])
    assert ratio([[0, 1, 1], [2, 3, 1]], more) == pytest.approx(0, abs=1e-9)
    assert ratio([[0], [2]], LOGS[:, :1]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("token", "log"), [(-1, np.nan), (4, -1.0), (0, np.nan)])
def test_a_row_that_names_no_token_is_outside_any_bound(token: int, log: float) -> None:
    assert ratio([[token, 0], [2, 3]], [[log, log], LOGS[1]]) == np.inf
