"""int8 for onnxruntime on a CPU, in two forms; what is not worth it stays float32.

    weight-only   MatMulNBits: 8 bits, a scale for every block of a column, the activations of each
                  row quantised per block: fastest for batch 1 to a few; rows do not mix
    dynamic       DynamicQuantizeLinear once per tensor, then MatMulIntegerToFloat with a scale
                  per column: fastest for batches; the scale of x is that of the whole batch

A product is worth it from a number of weights on (benchmarks/precision.md): smaller ones cost
less than their quantisation. Shape legend: that of rewrite.py.
"""

from collections.abc import Set
from math import prod

import onnx
from onnx import helper

from export.graph.builder import MICROSOFT
from export.precisions.integers import OURS, Rounding, blocks, columns
from export.precisions.rewrite import FLOAT, Body, Nodes, Product, graphs, product

BLOCK = 128
MIN_BLOCK = 16
INT8_COMPUTE = 4
"""MatMulNBits: accumulate in int8 instead of dequantising the weights."""
MIN_WEIGHTS = 16_384
"""A product with fewer weights is as fast in float32 (batch 1)."""
MIN_WEIGHTS_BATCH = 8_192
"""The same for the dynamic form (batch 8 and more)."""
MIN_COLUMNS = 16
"""A narrower product (classes of images) gains no time and loses most of the accuracy."""
MIN_TABLE = 65_536
"""A look-up table with fewer numbers is not worth its scales."""
TABLE = Rounding(sums=False)
"""Nobody sums over what is looked up."""
MAX_LOOKUPS = 16
"""Rows of a table that one text may read at a time."""


def weight_only(
    body: Body,
    small: Set[str] = frozenset(),
    block: int = BLOCK,
    least: int = MIN_WEIGHTS,
    how: Rounding = OURS,
) -> Nodes:
    """Large products as MatMulNBits (stacks of matrices: as in `dynamic`), tables in int8."""
    integer = _Integer(body, how)
    nodes: Nodes = []
    for node in body.nodes:
        found = product(body, node)
        if not found or not is_worth_it(found, least):
            nodes += lookup(body, node, small)
        elif found.weights_KN.ndim == 2:
            nodes += _blockwise(body, found, block, how)
        else:
            nodes += integer.product(found)
    return nodes


def dynamic(
    body: Body,
    small: Set[str] = frozenset(),
    least: int = MIN_WEIGHTS_BATCH,
    how: Rounding = OURS,
) -> Nodes:
    """Large products on integers, tables in int8; x is quantised once for all its products."""
    integer = _Integer(body, how)
    nodes: Nodes = []
    for node in body.nodes:
        found = product(body, node)
        if found and is_worth_it(found, least):
            nodes += integer.product(found)
        else:
            nodes += lookup(body, node, small)
    return nodes


def _blockwise(body: Body, p: Product, block: int, how: Rounding) -> Nodes:
    inputs, outputs = p.weights_KN.shape
    size = min(block, max(MIN_BLOCK, 1 << (inputs - 1).bit_length()))
    key = (*p.key, size)
    packed_NGJ, scales_NG = blocks(p.weights_KN, size, how)
    packed = body.derive(p.weights, "int8", packed_NGJ, key)
    scales = body.derive(p.weights, "scales", scales_NG, key)
    bias = bias_of(body, p)
    return _plus(
        body,
        p,
        bias,
        "MatMulNBits",
        [p.x, packed, scales, *(["", "", bias] if bias else [])],
        K=inputs,
        N=outputs,
        bits=8,
        block_size=size,
        accuracy_level=INT8_COMPUTE,
    )


class _Integer:
    """Products on integers in one graph; remembers what is quantised already."""

    def __init__(self, body: Body, how: Rounding) -> None:
        self.body, self.how = body, how
        self.quantised: dict[str, list[str]] = {}

    def product(self, p: Product) -> Nodes:
        body, nodes = self.body, []
        if p.x not in self.quantised:
            names = [body.fresh(f"{p.x}/{part}") for part in ("int8", "scale", "zero")]
            nodes = [helper.make_node("DynamicQuantizeLinear", [p.x], names, names[0])]
            self.quantised[p.x] = names
        x, x_scale, x_zero = self.quantised[p.x]
        whole_KN, scales_N = columns(p.weights_KN, self.how)
        weights = body.derive(p.weights, "int8", whole_KN, p.key)
        scales = body.derive(p.weights, "scales", scales_N, p.key)
        bias = bias_of(body, p)
        inputs = [x, weights, x_scale, scales, x_zero, *(["", bias] if bias else [])]
        return nodes + _plus(body, p, bias, "MatMulIntegerToFloat", inputs)


def _plus(
    body: Body, p: Product, bias: str | None, op: str, inputs: list[str], **attributes: int
) -> Nodes:
    """The product, and an Add for a C that the kernel cannot take (one that is computed)."""
    if p.plus is None or bias:
        name = p.node.name
        return [helper.make_node(op, inputs, [p.y], name, domain=MICROSOFT, **attributes)]
    bare = body.fresh(f"{p.y}/product")
    return [
        helper.make_node(op, inputs, [bare], bare, domain=MICROSOFT, **attributes),
        helper.make_node("Add", [bare, p.plus], [p.y], p.node.name),
    ]


def is_worth_it(p: Product, least: int) -> bool:
    return p.weights_KN.size >= least and p.weights_KN.shape[-1] >= MIN_COLUMNS


def bias_of(body: Body, p: Product) -> str | None:
    """The C of a Gemm when it is constant and has one number per column."""
    constant = body.constant(p.plus) if p.plus else None
    fits = constant is not None and tuple(constant.dims) == p.weights_KN.shape[1:]
    return p.plus if fits else None


def lookup(body: Body, node: onnx.NodeProto, small: Set[str]) -> Nodes:
    """A Gather from one of the tables `small`: bytes around 128, a scale for each row."""
    if node.op_type != "Gather" or node.input[0] not in small:
        return [node]
    name = node.input[0]
    table_VK = body.weights(name)
    assert table_VK is not None
    size = max(MIN_BLOCK, 1 << (table_VK.shape[1] - 1).bit_length())
    packed_VGJ, scales_VG = blocks(table_VK.T, size, TABLE)
    bytes_VK = packed_VGJ.reshape(len(table_VK), -1)[:, : table_VK.shape[1]]
    packed = body.derive(name, "rows/int8", bytes_VK)
    scales = body.derive(name, "rows/scales", scales_VG)
    inputs = [packed, node.input[1], scales]
    given = {"gather_axis": 0, "quantize_axis": 1, "block_size": size, "bits": 8}
    op = "GatherBlockQuantized"
    return [helper.make_node(op, inputs, node.output, node.name, domain=MICROSOFT, **given)]


def tables(model: onnx.ModelProto) -> Set[str]:
    """Look-up tables that are better kept in int8: large, and read for few tokens at a time.

    Dequantising a row takes longer than copying it: a whole window from int8 costs 2.5 times as
    much, a single token nothing that can be measured.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    found: dict[str, bool] = {}
    sizes: dict[str, int] = {}
    for graph in graphs(inferred.graph):
        for value in (*graph.input, *graph.value_info):
            dims = value.type.tensor_type.shape.dim
            sizes[value.name] = prod(d.dim_value for d in dims if d.HasField("dim_value"))
        shapes = {t.name: tuple(t.dims) for t in graph.initializer if t.data_type == FLOAT}
        found |= {n: prod(s) >= MIN_TABLE for n, s in shapes.items() if len(s) == 2}
    for graph in graphs(inferred.graph):
        for node in graph.node:
            if node.op_type == "Gather" and node.input[0] in found:
                along = {a.name: a.i for a in node.attribute}.get("axis", 0)
                few = sizes.get(node.input[1], MAX_LOOKUPS + 1) <= MAX_LOOKUPS
                found[node.input[0]] &= few and along == 0
    return frozenset(name for name, worth_it in found.items() if worth_it)
