"""Every precision: near float32, the same interface, the same bytes, nested graphs included."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from export.checks.assess import Net, answer, assess, check
from export.gpt2.cached import unroll_gpt2
from export.graph.builder import Graph
from export.network.lowerings import Form
from export.network.unroll import unroll
from export.precisions.convert import convert, runnable
from export.precisions.cpu import dynamic, weight_only
from export.precisions.half import BFLOAT16, FLOAT16, half
from export.precisions.qdq import Ranges, calibrate
from export.precisions.rewrite import Change, graphs, rewrite
from luminanet import interface
from luminanet.artifact.manifest import Precision
from luminanet.errors import ExportError, VerificationError
from luminanet.fields import ImageInput, Interval, Patch, TextInput
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.topology import Activation, Cluster, Connection, Topology
from tests.nets import random_gpt2, random_net, random_weights

INT8 = (Precision.INT8, Precision.INT8_BATCH)
LOW = (Precision.FP16, Precision.BF16)
CHANGES: Mapping[str, tuple[Change, float]] = {
    "weight-only": (partial(weight_only, least=1), 0.03),
    "dynamic": (partial(dynamic, least=1), 0.03),
    "fp16": (partial(half, to=FLOAT16, emulated=True), 0.002),
    "bf16": (partial(half, to=BFLOAT16, emulated=True), 0.02),
}


def image_net() -> Net:
    """Wide enough for every precision to find something to do."""
    patches = [Patch((0, 1, 2), top, 0, 16, 16) for top in (0, 16)]
    patches += [Patch((0, 1, 2), 0, 0, 16, 16, pool=2), Patch((0, 1, 2), 0, 0, 8, 8, pool=4)]
    seeing = tuple(Cluster(i, 0, 72, (patch,)) for i, patch in enumerate(patches))
    links = [Connection(4, i) for i in range(4)] + [Connection(0, 4), Connection(4, 4)]
    clusters = (*seeing, Cluster(4, 1, 200))
    shape = ImageInput(3, 32, 32)
    return random_weights(Topology(shape, 130, 20, Activation.GELU, clusters, tuple(links)))


def text_net() -> Net:
    clusters = (
        Cluster(0, 0, 160, (Interval(0, 1), Interval(1, 2))),
        Cluster(1, 0, 160, (Interval(0, 1), Interval(2, 32))),
        Cluster(2, 1, 96, (Interval(0, 4),)),
    )
    links = (Connection(2, 0), Connection(2, 1), Connection(0, 2), Connection(1, 1))
    shape = TextInput(vocab_size=600, embedding=128, window=32)
    return random_weights(Topology(shape, 130, 128, Activation.SILU, clusters, links))


def gpt2_net() -> Net:
    return random_gpt2(0, Gpt2Config(vocab_size=600, context=16, width=128, heads=4, layers=2))


NETS: Mapping[str, Callable[[], Net]] = {"image": image_net, "text": text_net, "gpt2": gpt2_net}


def graph_of(net: Net, form: Form = Form.BUS) -> onnx.ModelProto:
    return unroll_gpt2(net) if isinstance(net, Gpt2Net) else unroll(net, form)


def inputs_of(kind: str, rows: int = 12) -> NDArray[Any]:
    rng = np.random.default_rng(1)
    if kind == "image":
        return rng.random((rows, 3, 32, 32), dtype=np.float32)
    return rng.integers(0, 600, (rows, 32 if kind == "text" else 8))


def feeds_of(kind: str, net: Net) -> dict[str, NDArray[Any]]:
    return interface.of(net).feeds(inputs_of(kind))


def run(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for graph in graphs(model.graph) for node in graph.node]


def apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Relative error, root mean square."""
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


# ---------------------------------------------------------------------- networks


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("precision", Precision)
def test_every_precision_stays_near_the_reference(kind: str, precision: Precision) -> None:
    net, inputs = NETS[kind](), inputs_of(kind)
    targets = np.zeros(inputs.shape if kind == "gpt2" else len(inputs), np.int64)
    model = graph_of(net)
    ranges = calibrate(model, [feeds_of(kind, net)])
    found = assess(runnable(model, precision, ranges), net, inputs, answer(net, inputs, targets))
    check(found, precision)
    if precision is not Precision.FP32:
        assert found.typical > 1e-5, "nothing was converted"


@pytest.mark.parametrize("form", [Form.SHARED, Form.BLOCK])
@pytest.mark.parametrize("precision", Precision)
def test_other_forms_convert_as_well(form: Form, precision: Precision) -> None:
    net, inputs = image_net(), inputs_of("image")
    model = graph_of(net, form)
    ranges = calibrate(model, [feeds_of("image", net)])
    known = answer(net, inputs, np.zeros(len(inputs), np.int64))
    check(assess(runnable(model, precision, ranges), net, inputs, known), precision)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("precision", Precision)
def test_the_interface_stays_and_the_bytes_repeat(kind: str, precision: Precision) -> None:
    net = NETS[kind]()
    model = graph_of(net)
    before = model.SerializeToString(deterministic=True)
    ranges = calibrate(model, [feeds_of(kind, net)])
    made = convert(model, precision, ranges)
    assert (made.graph.input, made.graph.output) == (model.graph.input, model.graph.output)
    assert made.SerializeToString(deterministic=True) == convert(
        graph_of(NETS[kind]()), precision, ranges
    ).SerializeToString(deterministic=True)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made, full_check=kind != "gpt2")
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)
    read = {name for node in made.graph.node for name in node.input}
    assert {tensor.name for tensor in made.graph.initializer} <= read


@pytest.mark.parametrize(("kind", "share"), [("image", 0.5), ("text", 0.7), ("gpt2", 0.45)])
def test_low_precisions_are_smaller_files(kind: str, share: float) -> None:
    model = graph_of(NETS[kind]())
    full = model.ByteSize()
    assert all(convert(model, precision).ByteSize() < 0.6 * full for precision in LOW)
    assert all(convert(model, precision).ByteSize() < share * full for precision in INT8)


@settings(max_examples=12)
@given(st.integers(0, 100_000), st.booleans(), st.sampled_from(["fp16", "bf16"]))
def test_any_network_converts_to_half_precision(seed: int, text: bool, name: str) -> None:
    net = random_net(seed, text)
    change, bound = CHANGES[name]
    model = unroll(net)
    shape = [d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 40, shape) if text else rng.random(shape, dtype=np.float32)
    feeds = {model.graph.input[0].name: inputs}
    onnx.checker.check_model(convert(model, Precision(name)), full_check=True)
    (found,), (expected,) = run(rewrite(model, change), feeds), run(model, feeds)
    assert np.abs(found - expected).max() <= 4 * bound * max(1, np.abs(expected).max())


def test_rows_of_a_batch_do_not_mix_in_weight_only_int8() -> None:
    model = convert(graph_of(text_net()), Precision.INT8)
    tokens = inputs_of("text")
    (together,) = run(model, {"token_ids": tokens})
    pairs = [run(model, {"token_ids": tokens[i : i + 2]})[0] for i in range(0, len(tokens), 2)]
    assert np.abs(together - np.concatenate(pairs)).max() <= 1e-5 * np.abs(together).max()


# ---------------------------------------------------------------------- single nodes


def one_product(
    inputs: int, outputs: int, op: str, plus: str, **attributes: Any
) -> onnx.ModelProto:
    """y = x @ weights, plus nothing, a constant, or what is computed from x."""
    rng, graph = np.random.default_rng(inputs), Graph("product")
    graph.input("x", np.float32, ["batch", inputs])
    weights = rng.normal(size=(inputs, outputs)).astype(np.float32)
    stored = weights.T if attributes.get("transB") else weights
    names = ["x", graph.constant("weights", np.ascontiguousarray(stored))]
    if plus == "constant":
        names.append(graph.constant("bias", rng.normal(size=outputs).astype(np.float32)))
    if plus == "computed":
        names.append(graph.node("ReduceSum", ["x", graph.constant("axes", np.array([1]))], "sum"))
    graph.node(op, names, "y", **attributes)
    graph.output("y", np.float32, ["batch", outputs])
    return graph.build()


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("size", [(1, 16), (7, 19), (64, 64), (129, 33), (300, 200)])
@pytest.mark.parametrize(
    ("op", "plus", "attributes"),
    [
        ("MatMul", "", {}),
        ("Gemm", "", {"transB": 1}),
        ("Gemm", "constant", {"alpha": 0.5}),
        ("Gemm", "computed", {"transB": 1}),
    ],
)
def test_a_product_of_any_size_and_kind_is_converted(
    name: str, size: tuple[int, int], op: str, plus: str, attributes: dict[str, Any]
) -> None:
    change, bound = CHANGES[name]
    model = one_product(*size, op, plus, **attributes)
    feeds = {"x": np.random.default_rng(0).normal(size=(5, size[0])).astype(np.float32)}
    made = rewrite(model, change)
    assert len(ops(made)) > len(ops(model)) or ops(made) != ops(model)
    (found,), (expected,) = run(made, feeds), run(model, feeds)
    assert apart(found, expected) < bound


def test_a_matrix_on_the_left_stays_float32_on_a_cpu() -> None:
    graph = Graph("gates")
    graph.input("bus", np.float32, ["batch", 64, 64])
    gates = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
    graph.node("MatMul", [graph.constant("gates", gates), "bus"], "signals")
    graph.output("signals", np.float32, ["batch", 512, 64])
    model = graph.build()
    assert all(ops(convert(model, precision)) == ["MatMul"] for precision in INT8)


def test_x_is_quantised_once_for_all_products_that_read_it() -> None:
    graph = Graph("two")
    graph.input("x", np.float32, ["batch", 128])
    for name in ("y", "z"):
        weights = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
        graph.node("MatMul", ["x", graph.constant(f"{name}/weights", weights)], name)
        graph.output(name, np.float32, ["batch", 128])
    made = ops(convert(graph.build(), Precision.INT8_BATCH))
    assert made == ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "MatMulIntegerToFloat"]


def test_a_table_read_for_single_tokens_is_int8_and_one_read_for_windows_is_not() -> None:
    assert "GatherBlockQuantized" in ops(convert(graph_of(gpt2_net()), Precision.INT8))
    assert "GatherBlockQuantized" not in ops(convert(graph_of(text_net()), Precision.INT8))


# ---------------------------------------------------------------------- nested graphs


def looping(weights: NDArray[np.float32]) -> onnx.ModelProto:
    """x -> x @ weights / 8, three times in a Loop with an If around the product, then once."""
    size = len(weights)
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    product = [helper.make_node("MatMul", ["state", "weights"], ["inner"], "inner")]
    then = helper.make_graph(product, "then", [], [value("inner", shape=["batch", size])])
    same = [helper.make_node("Identity", ["state"], ["unused"], "unused")]
    other = helper.make_graph(same, "else", [], [value("unused", shape=["batch", size])])
    scalar = partial(helper.make_tensor_value_info, shape=[])
    nodes = [
        helper.make_node("If", ["go"], ["chosen"], "if", then_branch=then, else_branch=other),
        helper.make_node("Mul", ["chosen", "eighth"], ["next"], "next"),
        helper.make_node("Identity", ["go"], ["go_on"], "go_on"),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [
            scalar("number", TensorProto.INT64),
            scalar("go", TensorProto.BOOL),
            value("state", shape=["batch", size]),
        ],
        [scalar("go_on", TensorProto.BOOL), value("next", shape=["batch", size])],
    )
    graph = Graph("looping")
    graph.input("x", np.float32, ["batch", size])
    graph.constant("weights", weights)
    graph.constant("eighth", np.array(0.125, np.float32))
    count, go = graph.constant("count", np.array(3)), graph.constant("yes", np.array(True))
    graph.node("Loop", [count, go, "x"], "last", body=body)
    graph.node("MatMul", ["last", "weights"], "y")
    graph.output("y", np.float32, ["batch", size])
    return graph.build()


@pytest.mark.parametrize("name", CHANGES)
def test_nested_graphs_are_converted_and_share_one_copy_of_the_weights(name: str) -> None:
    rng = np.random.default_rng(0)
    model = looping(rng.normal(size=(128, 128)).astype(np.float32))
    change, bound = CHANGES[name]
    made = rewrite(model, change)
    tensors = [tensor for graph in graphs(made.graph) for tensor in graph.initializer]
    assert sum(np.prod(tensor.dims) == 128 * 128 for tensor in tensors) == 1
    feeds = {"x": rng.normal(size=(3, 128)).astype(np.float32)}
    (found,), (expected,) = run(made, feeds), run(model, feeds)
    assert 1e-5 < apart(found, expected) < 3 * bound


@pytest.mark.parametrize("precision", [*INT8, *LOW])
def test_a_nested_graph_is_valid_in_its_own_precision(precision: Precision) -> None:
    weights = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    made = convert(looping(weights), precision)
    onnx.checker.check_model(made)
    assert "MatMul" not in ops(made) or precision in LOW


# ---------------------------------------------------------------------- half precision


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("kind", ["image", "text"])
def test_emulated_half_precision_is_what_the_onnx_reference_computes(
    precision: Precision, kind: str
) -> None:
    net = NETS[kind]()
    model, feeds = graph_of(net), feeds_of(kind, net)
    (expected,) = ReferenceEvaluator(convert(model, precision)).run(None, feeds)
    (found,) = run(runnable(model, precision), feeds)
    (full,) = run(model, feeds)
    assert expected.dtype == np.float32
    step = {Precision.FP16: 2.0**-11, Precision.BF16: 2.0**-8}[precision]
    assert apart(found, expected) < 4 * step  # it rounds inside products and norms too
    assert apart(found, full) > step / 4, "nothing was rounded"


def test_onnxruntime_runs_fp16_and_agrees_with_its_emulation() -> None:
    net = image_net()
    model, feeds = graph_of(net), feeds_of("image", net)
    (found,) = run(convert(model, Precision.FP16), feeds)
    (expected,) = run(runnable(model, Precision.FP16), feeds)
    assert apart(found, expected) < 1e-3


def test_state_that_leaves_a_graph_is_summed_in_float32() -> None:
    graph = Graph("running")
    for name in ("sum", "new"):
        graph.input(name, np.float32, ["batch", 64])
    graph.node("Add", ["sum", "new"], "next_sum")
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    graph.node("MatMul", ["next_sum", graph.constant("weights", weights)], "y")
    for name in ("y", "next_sum"):
        graph.output(name, np.float32, ["batch", 64])
    made = convert(graph.build(), Precision.BF16)
    feeds = {"sum": np.full((1, 64), 1000, np.float32), "new": np.ones((1, 64), np.float32)}
    assert (ReferenceEvaluator(made).run(None, feeds)[1] == 1001).all()


# ---------------------------------------------------------------------- calibration


def test_quantisation_with_fixed_scales_needs_a_calibration() -> None:
    with pytest.raises(ExportError, match="calibrate"):
        convert(graph_of(image_net()), Precision.QDQ_INT8)


def test_only_what_was_calibrated_is_quantised_and_outliers_are_clipped() -> None:
    model = one_product(64, 64, "Gemm", "constant")
    assert ops(convert(model, Precision.QDQ_INT8, {"other": 1.0})) == ["Gemm"]
    ranges: Ranges = calibrate(model, [{"x": np.full((1, 64), 2, np.float32)}])
    assert ranges == {"x": 2.0}
    made = convert(model, Precision.QDQ_INT8, ranges)
    high, highest = (run(made, {"x": np.full((1, 64), x, np.float32)})[0] for x in (2, 200))
    assert (high == highest).all()


# ---------------------------------------------------------------------- assessment


def test_an_assessment_tells_what_the_task_loses() -> None:
    net, inputs = image_net(), inputs_of("image", 40)
    known = answer(net, inputs, np.zeros(40, np.int64))
    right = replace(known, targets=known.logits.argmax(-1))
    found = assess(graph_of(net), net, inputs, right)
    assert (found.top1, found.top1_lost, found.examples) == (1.0, 0.0, 40)
    assert abs(found.loss_lost) < 1e-5
    assert found.bits_per_byte(40) == pytest.approx(found.loss / np.log(2))
    stranger = assess(graph_of(random_weights(net.topology, 1)), net, inputs, right)  # type: ignore[union-attr]
    assert stranger.top1_lost > 0.5
    assert stranger.loss_lost > 0.5


def test_a_graph_that_is_too_far_from_its_network_is_refused() -> None:
    net, inputs = image_net(), inputs_of("image")
    known = answer(net, inputs, np.zeros(len(inputs), np.int64))
    found = assess(graph_of(random_weights(net.topology, 1)), net, inputs, known)  # type: ignore[union-attr]
    for precision in Precision:
        with pytest.raises(VerificationError, match="freeze with another precision"):
            check(found, precision)
    with pytest.raises(VerificationError):
        check(replace(found, typical=float("nan")), Precision.INT8)


def test_a_graph_of_another_network_is_refused() -> None:
    inputs = inputs_of("text")
    known = answer(text_net(), inputs, np.zeros(len(inputs), np.int64))
    with pytest.raises(ExportError, match="onnxruntime cannot run"):
        assess(graph_of(image_net()), text_net(), inputs, known)
    other = replace(known, logits=known.logits[:, :5])
    with pytest.raises(ExportError, match="gives logits"):
        assess(graph_of(text_net()), text_net(), inputs, other)
