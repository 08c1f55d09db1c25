import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.text import costs
from benchmarks.text.__main__ import main
from benchmarks.text.entries import Entry, report
from benchmarks.text.models import TextModel, open_model
from benchmarks.text.quality import BLOCK, HALF, TextQuality, evaluate, spelled
from benchmarks.text.streams import Streams
from export.assembly.describe import Label
from export.gpt2.cached import unroll_gpt2
from export.network.lowerings import Form
from export.network.unroll import unroll
from luminanet import gpt2, reference
from luminanet.artifact.manifest import Family, Precision
from luminanet.cost import macs as cost
from luminanet.errors import CheckpointError, DataError
from luminanet.fields import TextInput
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from serving.runtimes.onnxruntime_cpu import OrtCpu
from tests.datasets import write_stories
from tests.nets import (
    random_gpt2,
    random_net,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
    tiny_tokenizer,
    write_artifact,
)
from training import checkpoint
from training.data.corpus import open_corpus
from training.data.datasets import load_stories
from training.presets import TEXT_PRESETS

TOKENIZER = tiny_tokenizer()
SIZE = TOKENIZER.vocab_size
OURS = random_weights(tiny_text_topology(SIZE))
THEIRS = random_gpt2(0, Gpt2Config(vocab_size=SIZE, context=BLOCK, width=16, heads=2))
IDS = np.random.default_rng(0).integers(0, SIZE, BLOCK + 2 * HALF + 5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints `ours` and `theirs`, both artifacts, and stories."""
    folder = tmp_path_factory.mktemp("text")
    text = TOKENIZER.to_json()
    for name, net in (("ours", OURS), ("theirs", THEIRS)):
        checkpoint.save(folder / name / "ckpt.pt", checkpoint.Checkpoint(name, net, text))
        write_artifact(folder / name / "artifact", net, Label(name, text), "fp32,int8")
    write_stories(folder / "data", train=900, validation=60)
    return folder


def model(net: FrozenNet | Gpt2Net) -> TextModel:
    return TextModel("x", TOKENIZER.to_json(), "0", net)


def nats(logits_BV: NDArray[np.float64], right_B: NDArray[np.int64]) -> NDArray[np.float64]:
    highest_B1 = logits_BV.max(1, keepdims=True)
    total_B = np.log(np.exp(logits_BV - highest_B1).sum(1)) + highest_B1[:, 0]
    return np.asarray(total_B - logits_BV[np.arange(len(right_B)), right_B])


# ---------------------------------------------------------------------- quality


def test_every_token_but_the_first_is_scored_once_from_its_window() -> None:
    found = evaluate(model(OURS), IDS)
    at = np.arange(HALF + 1, BLOCK + 2 * HALF + 1)
    windows = np.stack([IDS[i - 16 : i] for i in at])
    expected = nats(reference.forward(OURS, windows), IDS[at])
    assert found.full.tokens == len(at)
    assert found.full.loss == pytest.approx(expected.mean(), abs=1e-5)


def test_the_baseline_sees_more_than_128_tokens_before_each() -> None:
    found = evaluate(model(THEIRS), IDS)
    blocks = np.stack([IDS[start : start + BLOCK + 1] for start in (0, HALF, 2 * HALF)])
    logits = gpt2.forward(THEIRS, blocks[:, :-1])
    late = nats(logits[:, HALF:].reshape(-1, SIZE), blocks[:, HALF + 1 :].reshape(-1))
    assert found.full.loss == pytest.approx(late.mean(), abs=1e-5)
    whole = nats(logits[::2].reshape(-1, SIZE), blocks[::2, 1:].reshape(-1))
    assert found.blocks.loss == pytest.approx(whole.mean(), abs=1e-5)
    early = whole.reshape(2, BLOCK)[:, 16:32]
    assert found.positions["16-31"].loss == pytest.approx(early.mean(), abs=1e-5)
    weights = {name: figures.tokens for name, figures in found.positions.items()}
    parts = sum(found.positions[name].loss * n for name, n in weights.items())
    assert parts / sum(weights.values()) == pytest.approx(found.blocks.loss)


def test_hits_and_bits_are_counted() -> None:
    found = evaluate(model(THEIRS), IDS)
    blocks = np.stack([IDS[start : start + BLOCK + 1] for start in (0, HALF, 2 * HALF)])
    said = gpt2.forward(THEIRS, blocks[:, :-1]).argmax(-1)
    right = said[:, HALF:] == blocks[:, HALF + 1 :]
    assert found.full.top1 == pytest.approx(right.mean())
    size = spelled(TOKENIZER.to_json())[IDS[HALF + 1 : -4]].sum()
    bits = found.full.loss * found.full.tokens / math.log(2)
    assert found.full.bits_per_byte == pytest.approx(bits / size)


@given(st.text(max_size=40))
def test_tokens_spell_as_many_bytes_as_their_text_has(text: str) -> None:
    sizes = spelled(TOKENIZER.to_json())
    assert sizes[TOKENIZER.encode(text)].sum() == len(text.encode())
    assert sizes[TOKENIZER.end_id] == 0


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_an_artifact_is_as_good_as_its_checkpoint(root: Path, name: str) -> None:
    one, two = (open_model(root / name / part) for part in (".", "artifact"))
    assert one.family == two.family
    assert one.parameters == two.parameters
    first, second = evaluate(one, IDS), evaluate(two, IDS)
    assert second.full.loss == pytest.approx(first.full.loss, abs=1e-4)
    assert second.blocks.loss == pytest.approx(first.blocks.loss, abs=1e-4)
    assert second.positions["0-15"].loss == pytest.approx(first.positions["0-15"].loss, abs=1e-4)


def test_what_cannot_be_evaluated_is_a_clear_error(root: Path, tmp_path: Path) -> None:
    short = random_gpt2(0, Gpt2Config(vocab_size=SIZE, context=128, width=16, heads=2))
    with pytest.raises(DataError, match="train it with --context 256"):
        evaluate(model(short), IDS)
    with pytest.raises(DataError, match="257 are the least"):
        evaluate(model(OURS), IDS[:256])
    with pytest.raises(CheckpointError, match="holds no model"):
        open_model(tmp_path)
    images = random_weights(tiny_image_topology())
    checkpoint.save(tmp_path / "ckpt.pt", checkpoint.Checkpoint("images", images))
    with pytest.raises(CheckpointError, match="give one for text"):
        open_model(tmp_path)


def test_the_held_out_split_is_the_share_that_no_run_trains_on(root: Path) -> None:
    whole = open_corpus(root / "data", None, SIZE, None)
    found = Streams(root / "data", "held-out").of(whole.tokenizer.to_json())
    held = max(round(len(whole.tokens) * TEXT_PRESETS["tinystories"].held_out), 257)
    assert found.tolist() == whole.tokens.ids_N[-held:].tolist()
    limited = Streams(root / "data", "held-out", limit=7).of(whole.tokenizer.to_json())
    assert limited.tolist() == found[:7].tolist()
    validation = Streams(root / "data", "validation").of(TOKENIZER.to_json())
    story = load_stories(root / "data", "validation")[0]
    assert validation.tolist()[: len(TOKENIZER.encode(story))] == TOKENIZER.encode(story)


# ---------------------------------------------------------------------- costs


@given(st.integers(0, 100_000))
@settings(max_examples=20)
def test_products_are_those_that_evolution_pays_for(seed: int) -> None:
    net = random_net(seed, text=True)
    assert costs.macs(unroll(net, Form.BUS)) == cost.macs(net.topology)
    assert isinstance(net.topology.input, TextInput)
    assert costs.state_bytes(unroll(net)) == 8 * net.topology.input.window


@given(st.sampled_from([8, 16, 64]), st.integers(1, 3), st.integers(1, 300))
@settings(max_examples=10)
def test_products_and_state_of_the_baseline_by_hand(width: int, layers: int, keys: int) -> None:
    config = Gpt2Config(vocab_size=50, context=BLOCK, width=width, heads=width // 8, layers=layers)
    graph = unroll_gpt2(random_gpt2(0, config))
    matrices = layers * 12 * width * width + 50 * width
    assert costs.macs(graph, keys) == matrices + layers * 2 * keys * width
    assert costs.state_bytes(graph, 255) == layers * 2 * 256 * width * 4
    assert costs.state_bytes(graph, 99) == layers * 2 * 100 * width * 4


@pytest.mark.parametrize("net", [OURS, THEIRS])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_timed_decode_graph_draws_what_the_step_graph_finds_likeliest(
    net: FrozenNet | Gpt2Net, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = {}
    plain = OrtCpu.bind

    def watched(self: OrtCpu, inputs: costs.Arrays, results: costs.Arrays) -> costs.Call:
        outputs.update(results | {"text": inputs["token_ids"].copy()})
        return plain(self, inputs, results)

    monkeypatch.setattr(OrtCpu, "bind", watched)
    graph = next(iter(model(net).steps())).model
    costs.call(graph, costs.DECODE, batch, position=40)()
    text = outputs["text"]
    if isinstance(net, FrozenNet):
        expected = reference.forward(net, text).argmax(-1)
        assert outputs["sampled_ids"][:, 0].tolist() == expected.tolist()
    else:
        assert set(outputs) > {"present_keys.0.0", "present_values.0.0"}
        assert np.isfinite(outputs["log_probabilities"]).all()
    costs.call(graph, costs.STEP, batch, position=40)()
    assert outputs["logits"].shape == (batch, SIZE)
    assert np.ptp(outputs["logits"]) > 0


def test_graphs_are_chosen_by_batch_and_precision() -> None:
    graphs = list(model(OURS).steps())
    assert {graph.precision for graph in graphs} == {
        *(Precision.FP32, Precision.INT8, Precision.INT8_BATCH)
    }
    by_precision = {graph.precision: graph.model for graph in graphs}
    assert costs.fitting(graphs, costs.INT8, 1) is by_precision[Precision.INT8]
    assert costs.fitting(graphs, costs.INT8, 32) is by_precision[Precision.INT8_BATCH]
    plain = [graph for graph in graphs if graph.precision is Precision.FP32]
    assert costs.fitting(plain, costs.FP32, 32) is plain[-1].model
    assert costs.fitting(plain, costs.INT8, 1) is None


def test_all_models_are_timed_at_every_key(root: Path) -> None:
    models = [open_model(root / name) for name in ("theirs", "ours", "ours/artifact")]
    found = costs.milliseconds(models, rounds=1)
    keys = {(k, p, b) for k in costs.KINDS for p in ("fp32", "int8") for b in (1, 32)}
    assert [set(own) for own in found] == [keys] * 3
    assert all(0 < ms < 1000 for own in found for ms in own.values())


# ---------------------------------------------------------------------- command


def test_the_command_compares_models(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(root / "ours"), str(root / "theirs"), "--data", str(root / "data")]
    assert main([*words, "--no-latency", "--out", str(tmp_path / "x.json")]) == 0
    shown = capsys.readouterr().out
    assert "| ours | " in shown
    assert "different tokenizers" not in shown
    assert "ms a token" not in shown
    raw = json.loads((tmp_path / "x.json").read_text())
    assert raw["split"] == "validation"
    entries = [Entry.from_dict(one) for one in raw["models"]]
    assert [one.to_dict() for one in entries] == raw["models"]
    assert [one.family for one in entries] == [Family.LUMINANET, Family.GPT2]
    assert f"{entries[0].quality.full.perplexity:.2f}" in shown
    share = entries[0].macs / entries[1].macs
    assert f"({share:.2f}x)" in shown
    assert entries[0].quality.full.tokens == entries[1].quality.full.tokens


def test_models_with_different_tokenizers_are_marked() -> None:
    quality = evaluate(model(OURS), IDS)
    one = Entry("one", Family.LUMINANET, "0", "aaaa", 300, 1, 1, 1, "s", quality)
    two = replace(one, name="two", tokenizer="bbbb")
    shown = report([one, two])
    assert f"{quality.full.perplexity:.2f}* |" in shown
    assert "**The models have different tokenizers**" in shown
    assert "*" not in report([one, one])


def test_a_huggingface_directory_is_a_model(root: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    config = {"model_type": "gpt2", "vocab_size": SIZE, "n_positions": BLOCK, "n_embd": 16}
    config |= {"n_head": 2, "n_layer": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(TOKENIZER.to_json())
    safetensors.save_file(dict(THEIRS.tensors), tmp_path / "model.safetensors")
    found = open_model(tmp_path)
    assert found.family is Family.GPT2
    assert found.name == tmp_path.name
    assert evaluate(found, IDS) == evaluate(model(THEIRS), IDS)


def test_errors_are_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root / "nowhere.pt"), "--no-latency"]) == 2
    assert main([str(root / "ours"), "--data", str(root / "ours")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)


def test_quality_survives_json() -> None:
    quality = evaluate(model(OURS), IDS)
    assert TextQuality.from_dict(json.loads(json.dumps(quality.to_dict()))) == quality
