"""Integers for weights: near them, with their sums, and safe where products saturate."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.integers import PLAIN
from export.checks.assess import Assessment, answer, assess, check
from export.graph.builder import MICROSOFT, Graph
from export.precisions import integers
from export.precisions.convert import convert
from export.precisions.integers import (
    LEVELS,
    OURS,
    Rounding,
    blocks,
    columns,
    largest_pairs,
    rounded,
)
from export.precisions.saturation import saturated, saturating
from luminanet.artifact.manifest import Precision
from luminanet.errors import VerificationError
from luminanet.machine import cpu
from tests.export.precisions.test_precision import INT8, NETS, graph_of, inputs_of, ops, run

SIZES = (st.integers(1, 300), st.integers(1, 40), st.sampled_from([16, 32, 128]))


def random_weights(inputs: int, outputs: int) -> NDArray[np.float32]:
    weights_KN = np.random.default_rng(inputs).normal(size=(inputs, outputs)).astype(np.float32)
    weights_KN[:, 0] = 0
    return weights_KN


@given(*SIZES)
def test_quantised_weights_are_a_step_away_at_most_and_their_sums_half_a_step(
    inputs: int, outputs: int, size: int
) -> None:
    weights_KN = random_weights(inputs, outputs)
    packed_NGJ, scales_NG = blocks(weights_KN, size)
    padded_NK = np.pad(weights_KN.T, ((0, 0), (0, -inputs % size)))
    apart_NGJ = (packed_NGJ - 128.0) - padded_NK.reshape(packed_NGJ.shape) / scales_NG[..., None]
    assert (np.abs(apart_NGJ) < 1.001).all()
    assert (np.abs(apart_NGJ.sum(-1)) < 0.51).all()
    for how in (OURS, Rounding(pairs=False)):
        whole_KN, scales_N = columns(weights_KN, how)
        apart_KN = whole_KN - weights_KN / scales_N
        assert (np.abs(apart_KN) < 1.001).all()
        assert (np.abs(apart_KN.sum(0)) < 0.51).all()


def test_rows_of_tables_are_half_a_step_away_at_most() -> None:
    weights_KN = random_weights(200, 30)
    packed_NGJ, scales_NG = blocks(weights_KN, 128, Rounding(sums=False))
    back_NGJ = (packed_NGJ.astype(np.float32) - 128) * scales_NG[..., None]
    back_KN = back_NGJ.reshape(30, -1)[:, :200].T
    steps_KN = np.repeat(scales_NG, 128, axis=1)[:, :200].T
    assert (np.abs(back_KN - weights_KN) <= 0.501 * steps_KN).all()


def test_rounding_moves_those_that_are_nearest_to_the_middle() -> None:
    steps = np.array([0.4, 0.3, 0.45, 0.0, 2.0], np.float32)
    assert rounded(steps, 0).tolist() == [0, 0, 1, 0, 2]
    assert rounded(-steps, 0).tolist() == [0, 0, -1, 0, -2]


@given(
    st.integers(0, 1 << 30),
    st.integers(1, 67),
    st.sampled_from([0.0, 0.3, 3.0]),
    st.booleans(),
    st.sampled_from([(), (1,), (3,)]),
)
def test_no_pair_of_products_leaves_16_bits(
    seed: int, inputs: int, shift: float, heavy: bool, stack: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(*stack, inputs, 5)) + shift
    weights = weights**5 if heavy else weights
    whole, _ = columns(weights.astype(np.float32))
    pairs = largest_pairs(whole.astype(np.float32))
    assert 255 * pairs.max() < 1 << 15
    assert (np.abs(whole.astype(int)) <= LEVELS).all()
    x = rng.choice([0, 254, 255], (4, inputs)).astype(np.uint8)
    for matrix in whole.reshape(-1, inputs, 5):
        assert (saturated(x, matrix) == x.astype(int) @ matrix.astype(int)).all()


@pytest.mark.parametrize("inputs", [1, 2, 7, 64, 97])
def test_kernels_that_saturate_lose_what_two_large_products_have_above_16_bits(inputs: int) -> None:
    x = np.full((1, inputs), 255, np.uint8)
    whole, rest = np.full((inputs, 1), 127, np.int8), 255 * 127 * (inputs % 2)
    assert saturated(x, whole) == [[32767 * (inputs // 2) + rest]]
    assert saturated(x, -whole) == [[-32768 * (inputs // 2) - rest]]
    whole[1::2] = -127
    assert saturated(x, whole) == [[rest]]


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("inputs", [2, 64, 97])
def test_the_kernels_of_this_cpu_are_exact_or_those_of_the_formula(rows: int, inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    whole = rng.integers(-127, 128, (inputs, 40)).astype(np.int8)
    x = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
    graph = Graph("kernel")
    graph.input("x", np.uint8, ["batch", inputs])
    operands: dict[str, NDArray[Any]] = {
        "w": whole,
        "x_scale": np.array(1, np.float32),
        "scales": np.ones(40, np.float32),
        "zero": np.array(0, np.uint8),
    }
    constants = [graph.constant(name, array) for name, array in operands.items()]
    graph.node("MatMulIntegerToFloat", ["x", *constants], "y", domain=MICROSOFT)
    graph.output("y", np.float32, ["batch", 40])
    (found,) = run(graph.build(), {"x": x})
    exact = np.array_equal(found, x.astype(int) @ whole.astype(int))
    assert exact or np.array_equal(found, saturated(x, whole))
    assert exact or not cpu().has_vnni, "a CPU with VNNI adds in 32 bits"


@pytest.mark.parametrize("stack", [(), (3,)])
@pytest.mark.parametrize("inputs", [64, 97])
@pytest.mark.parametrize("bias", [True, False])
def test_a_saturating_graph_computes_the_formula(
    stack: tuple[int, ...], inputs: int, bias: bool
) -> None:
    rng = np.random.default_rng(0)
    weights = np.abs(rng.normal(size=(*stack, inputs, 200))).astype(np.float32)
    graph = Graph("one")
    graph.input("x", np.float32, [*stack, "batch", inputs])
    operands = ["x", graph.constant("weights", weights)]
    if bias and not stack:
        operands.append(graph.constant("bias", np.arange(200, dtype=np.float32)))
    graph.node("Gemm" if len(operands) > 2 else "MatMul", operands, "y")
    graph.output("y", np.float32, [*stack, "batch", 200])
    made = saturating(convert(graph.build(), Precision.INT8_BATCH, how=PLAIN))
    assert "MatMulIntegerToFloat" not in ops(made)
    onnx.checker.check_model(made)
    x = rng.random((*stack, 5, inputs), dtype=np.float32) * 255
    x.reshape(-1)[:2] = 0, 255  # one step of x is 1, and its zero 0
    (found,) = run(made, {"x": x})
    whole, scales = columns(weights, PLAIN)
    bytes_ = np.rint(x).astype(np.uint8).reshape(-1, 5, inputs)
    matrices = whole.reshape(-1, inputs, 200)
    expected = [saturated(b, m) * scales for b, m in zip(bytes_, matrices, strict=True)]
    constant = np.arange(200) if len(operands) > 2 else 0
    np.testing.assert_allclose(found.reshape(-1, 5, 200), np.stack(expected) + constant, rtol=1e-5)


def saturating_error(kind: str, precision: Precision, how: Rounding = OURS) -> Assessment:
    net, inputs = NETS[kind](), inputs_of(kind)
    targets = np.zeros(inputs.shape if kind == "gpt2" else len(inputs), np.int64)
    made = saturating(convert(graph_of(net), precision, how=how))
    return assess(made, net, inputs, answer(net, inputs, targets))


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("precision", INT8)
def test_int8_is_right_on_a_cpu_that_saturates(kind: str, precision: Precision) -> None:
    check(saturating_error(kind, precision), precision)


@pytest.mark.parametrize("kind", NETS)
def test_weights_with_the_whole_range_are_found_wrong_there(kind: str) -> None:
    right = saturating_error(kind, Precision.INT8_BATCH)
    wrong = saturating_error(kind, Precision.INT8_BATCH, PLAIN)
    assert wrong.typical > 1.3 * right.typical


def test_a_graph_whose_products_saturate_badly_is_refused() -> None:
    with pytest.raises(VerificationError, match="from the numpy reference"):
        check(saturating_error("gpt2", Precision.INT8_BATCH, PLAIN), Precision.INT8_BATCH)


@pytest.mark.parametrize("how", [OURS, PLAIN])
def test_inputs_that_move_together_cost_less_when_sums_are_kept(how: Rounding) -> None:
    rng = np.random.default_rng(0)
    weights_KN = rng.normal(size=(192, 64)).astype(np.float32)
    x_BK = rng.normal(size=(100, 1)) + 0.1 * rng.normal(size=(100, 192))
    whole_KN, scales_N = columns(weights_KN, how)
    error = np.abs(x_BK @ (whole_KN * scales_N - weights_KN)).mean()
    assert (error < 0.02) == (how is OURS), error


def test_the_limits_fit_each_other() -> None:
    assert 255 * integers.LARGEST_PAIR < 1 << 15
    assert integers.LEVELS < integers.LARGEST_PAIR
