"""What a draw refuses, as nodes: top-k, top-p and min-p without sorting.

Whether a token is kept is a count and a sum over what weighs more than it. onnxruntime's TopK of a
few hundred of 4096 numbers costs more than a network, so it is left to rows that use top_k and
top_p together. The meaning is that of luminanet/sampling.py.

Shape legend: B rows, V vocabulary (padded to whole blocks).
"""

from typing import NamedTuple

import numpy as np
import onnx

from export.graph.region import Region

FLOAT = onnx.TensorProto.FLOAT


class Limits(NamedTuple):
    """Per row [B, 1], float32: a winner is refused when so many tokens weigh more, or have
    together this share of the weight, or when its weight is less than this share of the highest.
    Infinite (for min_p: 0) is off."""

    top_k_B1: str
    top_p_B1: str
    min_p_B1: str


class Flags(NamedTuple):
    """What at least one row asks for, bool []: any limit; min_p, or top_k and top_p together."""

    cut: str
    rare: str


class Asked(NamedTuple):
    """top_k (int64) and top_p as they were asked for [B, 1]."""

    top_k_B1: str
    top_p_B1: str


def unsqueezed(region: Region, name: str) -> str:
    """An input [B] as a column [B, 1]."""
    axis = region.constant(f"{name}/axis", [1])
    return region.node("Unsqueeze", [name, axis], f"{name}/column")


def heavier(region: Region, weights_BV: str, weight_B1: str) -> str:
    """1 for what weighs more than the row's weight, 0 for the others, float32 [B, V]."""
    more_BV = region.node("Greater", [weights_BV, weight_B1], "heavier/where")
    return region.node("Cast", [more_BV], "heavier", to=FLOAT)


def refused(region: Region, weights_BV: str, weight_B1: str, limits: Limits) -> str:
    """Which winners top_k or top_p refuse [B, 1]. A comparison with NaN refuses nothing."""
    region = Region(region.graph, f"{region.prefix}refused/")
    columns = region.constant("columns", [1])
    heavier_BV = heavier(region, weights_BV, weight_B1)
    count_B1 = region.node("ReduceSum", [heavier_BV, columns], "count")
    above_BV = region.node("Mul", [weights_BV, heavier_BV], "above")
    sum_B1 = region.node("ReduceSum", [above_BV, columns], "sum")
    by_k_B1 = region.node("GreaterOrEqual", [count_B1, limits.top_k_B1], "by_top_k")
    by_p_B1 = region.node("GreaterOrEqual", [sum_B1, limits.top_p_B1], "by_top_p")
    return region.node("Or", [by_k_B1, by_p_B1], "by_either")


def by_weight(region: Region, weights_BV: str, limits: Limits, asked: Asked) -> Limits:
    """top_p of what top_k keeps, and min_p of the highest weight."""
    total_B1 = top_k_weight(region, weights_BV, asked)
    share_B1 = region.node("Mul", [limits.top_p_B1, total_B1], "top_p/limit")
    columns = region.constant("columns", [1])
    highest_B1 = region.node("ReduceMax", [weights_BV, columns], "highest")
    least_B1 = region.node("Mul", [limits.min_p_B1, highest_B1], "min_p/limit")
    return Limits(limits.top_k_B1, share_B1, least_B1)


def top_k_weight(region: Region, weights_BV: str, asked: Asked) -> str:
    """What top_k keeps, summed; 1 for a row that does not use both top_k and top_p [B, 1]."""
    one, unit = region.constant("first", 1), region.constant("unit", np.float32(1))
    has_k_B1 = region.node("GreaterOrEqual", [asked.top_k_B1, one], "has_top_k")
    has_p_B1 = region.node("Less", [asked.top_p_B1, unit], "has_top_p")
    both_B1 = region.node("And", [has_k_B1, has_p_B1], "has_both")
    columns = region.constant("columns", [1])
    width = region.node("Shape", [weights_BV], "width", start=1)
    bounded_B1 = region.node("Min", [asked.top_k_B1, width], "k/bounded")
    k_B1 = region.node("Where", [both_B1, bounded_B1, one], "k")
    longest = region.node("ReduceMax", [k_B1], "k/most", keepdims=0)
    count = region.node("Unsqueeze", [longest, region.constant("front", [0])], "k/count")
    values, _ = region.nodes("TopK", [weights_BV, count], "top", ["values", "ids"])
    rank_B1 = region.node("Sub", [k_B1, one], "rank")
    border_B1 = region.node("GatherElements", [values, rank_B1], "border", axis=1)
    below_BV = region.node("Less", [weights_BV, border_B1], "below")
    nothing = region.constant("nothing", np.float32(0))
    top_BV = region.node("Where", [below_BV, nothing, weights_BV], "kept_by_k")
    sum_B1 = region.node("ReduceSum", [top_BV, columns], "sum")
    return region.node("Where", [both_B1, sum_B1, unit], "top_k_weight")
