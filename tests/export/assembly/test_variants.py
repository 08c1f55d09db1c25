"""Which graphs an artifact gets, what is told of them, and the examples that assess them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.assembly import build as maker
from export.assembly import variants
from export.assembly.build import Maker
from export.assembly.variants import BATCH_MODEL, Request, parse_decode, parse_precisions
from export.checks import timing
from export.checks.assess import Net
from export.checks.examples import Examples, feeds_of, load, save, seeded
from export.decoding.decode import decode_windows
from export.freeze import main
from export.network import choose
from export.network.choose import Choice, by_batch
from export.network.lowerings import Form
from export.network.unroll import unroll
from export.precisions.rewrite import graphs
from export.precisions.table import TABLE
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import MODEL, Precision, Role, Runtime
from luminanet.errors import ConfigError, DataError, ExportError, VerificationError
from luminanet.frozen import FrozenNet
from tests.nets import (
    LABELS,
    frozen,
    random_gpt2,
    random_net,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
)
from training.checkpoint import Checkpoint
from training.checkpoint import save as save_checkpoint

IMAGE, TEXT = random_weights(tiny_image_topology()), random_weights(tiny_text_topology(300))
GPT2 = random_gpt2(0)
NETS: dict[str, Net] = {"image": IMAGE, "text": TEXT, "gpt2": GPT2}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "ckpt.pt", Checkpoint("tiny", IMAGE, labels=LABELS))
    return tmp_path / "ckpt.pt"


def real(net: Net) -> Examples:
    """Examples like those of a file: random, but with a task and something to calibrate."""
    made = seeded(net, seed=1)
    return Examples(made.inputs, made.targets, feeds_of(net, made.inputs), bytes_per_token=2.0)


def test_words_become_precisions_and_fp32_comes_first() -> None:
    assert parse_precisions("fp32") == (Precision.FP32,)
    assert parse_precisions("int8") == (Precision.FP32, Precision.INT8, Precision.INT8_BATCH)
    assert parse_precisions("qdq, bf16,fp16") == (
        *(Precision.FP32, Precision.FP16, Precision.BF16, Precision.QDQ_INT8),
    )
    for text in ("", "fp64", "int8,,fp16", "int8-batch"):
        with pytest.raises(ConfigError, match="choose from fp32, int8"):
            parse_precisions(text)


@pytest.mark.parametrize("name", NETS)
def test_every_precision_is_a_file_that_was_verified(name: str) -> None:
    net = NETS[name]
    request = Request("bus", tuple(Precision), real(net), decode=())
    maker = Maker(net, request.examples)
    made = [maker.make(variant) for variant in variants.variants(net, request)]
    entries = {graph.file: graph.entry for graph, _ in made}
    assert list(entries) == [
        *("model.onnx", "model.int8.onnx", "model.int8-batch.onnx", "model.fp16.onnx"),
        *("model.bf16.onnx", "model.qdq.onnx"),
    ]
    assert [entry.precision for entry in entries.values()] == list(Precision)
    assert entries["model.int8-batch.onnx"].from_batch == 4
    for graph, error in made:
        assert error <= graph.entry.verified_within
        precision = graph.entry.precision
        bound = 1e-4 if precision is Precision.FP32 else TABLE[precision].bound
        assert graph.entry.verified_within == bound
        assert graph.entry.nodes == len(graph.model.graph.node)
        assert graph.entry.examples["examples"] == real(net).targets.size
        assert graph.entry.examples["top1_percent"] <= 100
        assert graph.entry.examples["bits_per_byte"] > 0


def test_without_examples_nothing_is_said_about_a_task() -> None:
    assert all(graph.entry.examples == {} for graph in frozen(TEXT, "int8,fp16"))


@pytest.mark.parametrize("name", NETS)
def test_the_same_network_gives_the_same_graphs(name: str) -> None:
    first, second = (frozen(NETS[name], "int8,fp16,bf16") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.entry == other.entry
        assert one.model.SerializeToString(True) == other.model.SerializeToString(True)


def test_a_graph_that_is_apart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = unroll(random_weights(tiny_image_topology(), seed=1))
    monkeypatch.setattr(maker, "unroll", lambda *_: apart)
    for variant in variants.variants(IMAGE, Request("bus", parse_precisions("int8"))):
        with pytest.raises(VerificationError, match="from the numpy reference"):
            Maker(IMAGE).make(variant)


def test_a_gpt2_for_tensorrt_has_standard_operators_alone() -> None:
    graphs = {graph.file: graph for graph in frozen(GPT2, "int8,fp16,bf16", tensorrt=True)}
    assert list(graphs) == [
        *("model.onnx", "model.tensorrt.onnx", "model.int8.onnx", "model.int8-batch.onnx"),
        *("model.fp16.onnx", "model.bf16.onnx"),
    ]
    for file, graph in graphs.items():
        is_standard = all(node.domain == "" for node in graph.model.graph.node)
        is_for_tensorrt = file in ("model.tensorrt.onnx", "model.fp16.onnx", "model.bf16.onnx")
        assert is_standard == is_for_tensorrt
        assert graph.entry.runtime == ("tensorrt" if is_for_tensorrt else "cpu")
        assert graph.entry.form == ("plain" if is_for_tensorrt else "gpt2")


def test_a_luminanet_needs_no_graph_of_its_own_for_tensorrt() -> None:
    assert [graph.file for graph in frozen(TEXT, tensorrt=True)] == ["model.onnx"]
    assert frozen(TEXT)[0].entry.runtime == "any"


# ---------------------------------------------------------------------- graphs that decode


def test_numbers_of_tokens_are_read_and_others_refused() -> None:
    assert parse_decode("4") == (4,)
    assert parse_decode("8, 1,4,1") == (1, 4, 8)
    assert parse_decode("none") == ()
    for text in ("", "0", "-1", "65", "4,", "many", "1.5", "none,4"):
        with pytest.raises(ConfigError, match="give numbers of tokens from 1 to 64"):
            parse_decode(text)


def test_every_graph_for_a_cpu_gets_one_that_decodes() -> None:
    request = Request(precisions=parse_precisions("int8,fp16"), decode=(1, 4), tensorrt=True)
    text = [v for v in variants.variants(TEXT, request) if v.role is Role.DECODE]
    assert [v.file for v in text] == ["decode.onnx", "decode.int8.onnx", "decode.int8-batch.onnx"]
    assert {v.steps for v in text} == {0}
    gpt2 = [v for v in variants.variants(GPT2, request) if v.role is Role.DECODE]
    assert [v.file for v in gpt2] == [
        *("decode.1.onnx", "decode.4.onnx", "decode.1.int8.onnx", "decode.4.int8.onnx"),
        *("decode.1.int8-batch.onnx", "decode.4.int8-batch.onnx"),
    ]
    assert [v.steps for v in gpt2] == [1, 4] * 3
    assert {v.runtime for v in text + gpt2} == {Runtime.CPU}
    assert [v.from_batch for v in text] == [1, 1, 4]
    assert not [v for v in variants.variants(IMAGE, request) if v.role is Role.DECODE]
    none = replace(request, decode=())
    assert not [v for v in variants.variants(TEXT, none) if v.role is Role.DECODE]


def test_both_forms_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {1: Choice(Form.SHARED, "few"), 9: Choice(Form.BUS, "many")}
    monkeypatch.setattr(variants, "choose", lambda *_: forms)
    found = {v.file: (v.form, v.from_batch) for v in variants.variants(TEXT, Request())}
    assert found["decode.onnx"] == ("shared", 1)
    assert found["decode.batch.onnx"] == ("bus", 9)


@pytest.mark.parametrize("name", ["text", "gpt2"])
def test_a_graph_that_decodes_is_verified_and_the_same_every_time(name: str) -> None:
    made, again = (frozen(NETS[name], decode=(2,))[-1] for _ in range(2))
    assert made.entry == again.entry
    assert made.entry.role is Role.DECODE
    assert made.entry.verified_within == 1e-4
    assert made.entry.nodes == sum(len(graph.node) for graph in graphs(made.model.graph))
    assert made.model.SerializeToString(True) == again.model.SerializeToString(True)


def test_a_graph_that_draws_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = decode_windows(unroll(random_weights(tiny_text_topology(300), seed=1)))
    monkeypatch.setattr(maker, "decode_windows", lambda _: other)
    with pytest.raises(VerificationError, match="freeze with --decode none"):
        frozen(TEXT, decode=(4,))


# ---------------------------------------------------------------------- forms


def test_a_second_form_takes_over_where_it_becomes_faster() -> None:
    found = by_batch({Form.BUS: {1: 10, 64: 700}, Form.SHARED: {1: 73, 64: 637}})
    assert {least: choice.form for least, choice in found.items()} == {1: "bus", 33: "shared"}


def test_it_takes_over_between_the_nearest_sizes_that_are_known() -> None:
    bus = {1: 10.0, 8: 80.0, 64: 700.0}
    assert list(by_batch({Form.BUS: bus, Form.SHARED: {1: 24.0, 8: 66.0, 64: 500.0}})) == [1, 5]
    assert list(by_batch({Form.BUS: bus, Form.SHARED: {1: 24.0, 8: 120.0, 64: 660.0}})) == [1, 36]


@pytest.mark.parametrize(("other", "files"), [(104.0, 1), (106.0, 2)])
def test_a_second_form_must_be_worth_its_file(other: float, files: int) -> None:
    assert len(by_batch({Form.BUS: {1: 1, 64: other}, Form.SHARED: {1: 2, 64: 100}})) == files


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(1, 1e6)] * 2), min_size=1, max_size=5))
def test_batch_sizes_rise_and_the_first_is_1(times: list[tuple[float, float]]) -> None:
    found = {form: {1: few, 64: many} for form, (few, many) in zip(Form, times, strict=False)}
    by = by_batch(found)
    assert list(by) == sorted(by)
    assert next(iter(by)) == 1
    assert max(by) <= 64
    assert len({choice.form for choice in by.values()}) == len(by)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Form]:
    """The forms that are unrolled from now on."""
    forms: list[Form] = []

    def unroll_and_count(net: FrozenNet, form: Form) -> onnx.ModelProto:
        forms.append(form)
        return unroll(net, form)

    for module in (choose, maker):
        monkeypatch.setattr(module, "unroll", unroll_and_count)
    return forms


@pytest.mark.parametrize("form", ["auto", "measure", "bus"])
@pytest.mark.parametrize("name", ["image", "text"])
def test_a_form_is_unrolled_once(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUND_S", 0.0)
    forms = counted(monkeypatch)
    made = frozen(NETS[name], "int8", decode=(4,), form=form)
    assert len(made) >= 3
    assert len(set(forms)) == len(forms) > 0
    assert {graph.entry.form for graph in made} <= set(forms)


@pytest.mark.parametrize("name", ["image", "text"])
def test_a_graph_that_was_weighed_is_the_one_that_would_be_unrolled(name: str) -> None:
    net = NETS[name]
    assert isinstance(net, FrozenNet)
    for choice in choose.choose(net).values():
        assert choice.graph is not None
        assert choice.graph.SerializeToString(True) == unroll(net, choice.form).SerializeToString(
            True
        )


def test_two_forms_share_the_batch_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {1: Choice(Form.SHARED, "few"), 9: Choice(Form.BUS, "many")}
    monkeypatch.setattr(variants, "choose", lambda *_: forms)
    request = Request(precisions=parse_precisions("int8"))
    found = {v.file: (v.form, v.from_batch) for v in variants.variants(IMAGE, request)}
    assert found == {
        MODEL: ("shared", 1),
        BATCH_MODEL: ("bus", 9),
        "model.int8.onnx": ("shared", 1),
        "model.int8-batch.onnx": ("bus", 4),
    }


# ---------------------------------------------------------------------- examples


@pytest.mark.parametrize("name", NETS)
def test_examples_are_read_as_they_were_written(name: str, tmp_path: Path) -> None:
    net = NETS[name]
    given = real(net)
    if name == "image":
        whole = np.rint(given.inputs * 255).astype(np.float32) / 255
        given = Examples(whole, given.targets, feeds_of(net, whole), 0.0)
    save(tmp_path / "a.npz", net, given, given.inputs)
    found = load(tmp_path / "a.npz", net)
    assert np.array_equal(found.inputs, given.inputs)
    assert np.array_equal(found.targets, given.targets)
    assert found.inputs.dtype == given.inputs.dtype
    assert found.bytes_per_token == given.bytes_per_token
    assert len(found.feeds) == len(given.feeds) > 0
    for one, other in zip(found.feeds, given.feeds, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in other)


def archive(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "is not there"),
    "text": (lambda path: path.write_text("hello"), "is no file of examples"),
    "no targets": (lambda path: archive(path, inputs=np.zeros((2, 3, 32, 32))), "targets"),
    "pickles": (
        lambda path: archive(path, inputs=np.array([{}]), targets=np.zeros(1, np.int64)),
        "is no file of examples",
    ),
    "another size": (
        lambda path: archive(
            path, inputs=np.zeros((2, 3, 28, 28), np.float32), targets=np.zeros(2, np.int64)
        ),
        "this network reads float32",
    ),
    "bytes as floats": (
        lambda path: archive(
            path, inputs=np.full((2, 3, 32, 32), 255, np.float32), targets=np.zeros(2, np.int64)
        ),
        r"not all in 0\.\.1",
    ),
    "no numbers": (
        lambda path: archive(
            path, inputs=np.full((2, 3, 32, 32), np.nan, np.float32), targets=np.zeros(2, np.int64)
        ),
        r"not all in 0\.\.1",
    ),
    "fewer targets": (
        lambda path: archive(
            path, inputs=np.zeros((2, 3, 32, 32), np.uint8), targets=np.zeros(1, np.int64)
        ),
        r"not int64 \[2\]",
    ),
    "an unknown class": (
        lambda path: archive(
            path, inputs=np.zeros((2, 3, 32, 32), np.uint8), targets=np.array([0, 10])
        ),
        r"not all in 0\.\.9",
    ),
    "no bytes": (
        lambda path: archive(
            path,
            inputs=np.zeros((2, 3, 32, 32), np.uint8),
            targets=np.zeros(2, np.int64),
            text_bytes=np.array(-1),
        ),
        "text_bytes",
    ),
}


@pytest.mark.parametrize("name", ["inputs", "calibration"])
def test_texts_longer_than_the_cache_are_refused(name: str, tmp_path: Path) -> None:
    arrays = {"inputs": (2, 4), "targets": (2, 4), "calibration": (2, 4)}
    arrays |= {name: (2, GPT2.config.context + 1)}
    made = {key: np.zeros(shape, np.int64) for key, shape in arrays.items()}
    archive(tmp_path / "a.npz", **made)
    with pytest.raises(DataError, match=rf"{name} are texts of .* this GPT-2 reads"):
        load(tmp_path / "a.npz", GPT2)


@pytest.mark.parametrize("case", BAD)
def test_bad_examples_are_refused_in_one_line(
    case: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = BAD[case]
    make(checkpoint.with_name("a.npz"))
    with pytest.raises(DataError, match=words):
        load(checkpoint.with_name("a.npz"), IMAGE)
    assert main([str(checkpoint), "--examples", str(checkpoint.with_name("a.npz"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (checkpoint.parent / "artifact").exists()


# ---------------------------------------------------------------------- the command line


def test_the_command_line_writes_assesses_and_reports_all(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkpoint.with_name("mine.npz")
    save(file, IMAGE, real(IMAGE), real(IMAGE).inputs)
    options = ["--precision", "int8,qdq", "--form", "bus", "--examples", str(file)]
    assert main([str(checkpoint), *options]) == 0
    report = capsys.readouterr().out
    artifact = Artifact.open(checkpoint.parent / "artifact")
    for name, entry in artifact.manifest.graphs.items():
        assert artifact.read(name)
        assert name in report
        assert f"{entry.precision}, form bus, {entry.nodes} nodes" in report
        assert entry.examples["examples"] == 64
    assert "ask the numpy reference about 64 examples" in report
    assert artifact.manifest.command == (
        "python export/freeze.py ckpt.pt --form bus --precision fp32,int8,qdq --examples mine.npz"
    )


def test_a_dry_run_tells_what_would_be_written(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "--precision", "fp16", "--dry-run"]) == 0
    report = capsys.readouterr().out
    assert "not written" in report
    assert "model.fp16.onnx " in report
    assert not (checkpoint.parent / "artifact").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "int4"], "int4"),
        (["--precision", "qdq"], "add --examples"),
        (["--decode", "99"], "1 to 64"),
    ],
)
def test_a_precision_that_cannot_be_made_is_one_line(
    options: list[str], words: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ExportError, match="there is no form"):
        variants.variants(random_net(0, True), Request("spiral"))


def test_only_int8_has_a_graph_of_several_tokens_unless_asked_for() -> None:
    request = Request(precisions=(Precision.FP32, Precision.INT8))
    made = [v.file for v in variants.variants(GPT2, request) if v.role is Role.DECODE]
    assert made == ["decode.1.onnx", "decode.1.int8.onnx", "decode.4.int8.onnx"]
