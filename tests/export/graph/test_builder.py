import numpy as np
import onnx
import pytest

from export.graph import builder as module
from export.graph.builder import Graph
from export.graph.count import macs
from luminanet.errors import ExportError


def product(op: str, left: list[int | str], right: tuple[int, ...], **attributes: int) -> Graph:
    graph = Graph("product")
    graph.input("x", np.float32, left)
    weights = graph.constant("w", np.ones(right, np.float32))
    graph.node(op, ["x", weights], "y", **attributes)
    return graph


def test_a_product_costs_the_size_of_its_matrix() -> None:
    assert macs(product("MatMul", ["batch", 3], (3, 5)).build()) == 15
    assert macs(product("MatMul", ["batch", "steps", 3], (3, 5)).build()) == 15
    assert macs(product("Gemm", ["batch", 3], (5, 3), transB=1).build()) == 15


def test_pooling_costs_its_matrix_times_the_width_of_what_is_pooled() -> None:
    graph = Graph("pool")
    graph.input("ids", np.int64, ["batch", 4])
    table = graph.constant("table", np.ones((9, 8), np.float32))
    window = graph.node("Gather", [table, "ids"], "window")
    weights = graph.constant("weights", np.ones((2, 4), np.float32))
    graph.node("MatMul", [weights, window], "pooled")
    assert macs(graph.build()) == 2 * 4 * 8


def test_a_product_of_two_activations_counts_for_one_row() -> None:
    graph = Graph("attention")
    graph.input("x", np.float32, ["batch", 2, 3])
    graph.input("y", np.float32, ["batch", 3, 5])
    graph.node("MatMul", ["x", "y"], "z")
    assert macs(graph.build()) == 2 * 3 * 5


def test_a_constant_can_be_shared_but_not_replaced() -> None:
    graph = Graph("shared")
    graph.constant("w", np.ones(2))
    assert graph.constant("w", np.ones(2)) == "w"
    with pytest.raises(AssertionError):
        graph.constant("w", np.zeros(2))
    assert len(graph.build().graph.initializer) == 1


def test_a_constant_that_is_no_number_can_be_shared() -> None:
    """So that the check of the logits can tell what is wrong."""
    graph = Graph("shared")
    graph.constant("w", np.array([np.nan, 1.0]))
    assert graph.constant("w", np.array([np.nan, 1.0])) == "w"


def test_more_weights_than_one_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MODEL_BYTES", 100)
    graph = Graph("large")
    graph.constant("first", np.ones(10, np.float64))
    with pytest.raises(ExportError, match="2 GB"):
        graph.constant("second", np.ones(10, np.float64))


def test_only_domains_in_use_are_declared() -> None:
    model = product("MatMul", ["batch", 3], (3, 5)).build()
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.ir_version == 10
    assert isinstance(model, onnx.ModelProto)
