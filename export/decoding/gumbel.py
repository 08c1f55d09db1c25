"""The draw of a token as nodes: races between tokens until the winner is kept.

The meaning is that of luminanet/sampling.py, from its third step on. Only the few rows whose winner
is refused race again. A node costs about as much as thousands of numbers, so there are few of them,
and the random numbers of all first races of a call are made together.

Shape legend: B batch, R rows that race again, K steps, V vocabulary (padded to whole blocks),
N blocks, S size of a block, J = N + S.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from export.decoding.counter_rng import counter, next_counter, uniform_logs
from export.decoding.filters import Asked, Flags, Limits, by_weight, heavier, refused, unsqueezed
from export.graph.builder import Shape
from export.graph.region import Kind, Region
from luminanet.sampling import Blocks

COLUMN: Shape = ("rows", 1)
TOKEN: Kind = (np.int64, COLUMN)
REFUSED: Kind = (np.bool_, COLUMN)


class Numbers(NamedTuple):
    """The random numbers of a step: log(u) of the first race [B, J], and for more races the rows'
    seeds times their factor, uint64 [B, 1], and the number of the step, int64 []."""

    logs_BJ: str
    key_B1: str
    step: str


class Winner(NamedTuple):
    token_B1: str
    row_BS: str
    place_B1: str


class Races:
    """Adds the draws of one graph; limits and flags may be tensors of an outer graph."""

    def __init__(self, blocks: Blocks, limits: Limits, flags: Flags) -> None:
        self.blocks = blocks
        self.limits = limits
        self.flags = flags

    def draw(self, region: Region, weights_BV: str, numbers: Numbers) -> str:
        """Token ids [B, 1] in proportion to the weights [B, V] of those that are kept."""
        return region.when(
            self.flags.cut,
            "kept",
            [TOKEN],
            lambda s: [self._until_kept(s, weights_BV, numbers)],
            lambda s: [self._race(s, weights_BV, numbers.logs_BJ).token_B1],
        )[0]

    def _race(self, region: Region, weights_BV: str, logs_BJ: str) -> Winner:
        """Blocks race with their sums, then the tokens of the block that won.

        Logarithms of u are negative, so the highest weight / -log is the lowest weight / log.
        """
        sizes = region.constant("sizes", list(self.blocks))
        by_block_BN, by_place_BS = region.nodes(
            "Split", [logs_BJ, sizes], "clocks", ["blocks", "places"], axis=1
        )
        rows_BNS = in_blocks(region, weights_BV, self.blocks)
        axis = region.constant("last_axis", [2])
        sums_BN = region.node("ReduceSum", [rows_BNS, axis], "sums", keepdims=0)
        times_BN = region.node("Div", [sums_BN, by_block_BN], "block/times")
        block_B1 = region.node("ArgMin", [times_BN], "block", axis=1)
        row_BS = region.node("GatherND", [rows_BNS, block_B1], "row", batch_dims=1)
        times_BS = region.node("Div", [row_BS, by_place_BS], "place/times")
        place_B1 = region.node("ArgMin", [times_BS], "place", axis=1)
        return Winner(token_id(region, block_B1, place_B1, self.blocks), row_BS, place_B1)

    def _until_kept(self, region: Region, weights_BV: str, numbers: Numbers) -> str:
        winner = self._race(region, weights_BV, numbers.logs_BJ)
        token_B1, weight_B1 = winner.token_B1, weight(region, winner)
        (refused_B1,) = region.when(
            self.flags.rare,
            "refused",
            [REFUSED],
            lambda s: [self._refused_rarely(s, weights_BV, weight_B1)],
            lambda s: [refused(s, weights_BV, weight_B1, self.limits)],
        )
        again = region.node("ReduceMax", [refused_B1], "any_refused", keepdims=0)
        return region.when(
            again,
            "again",
            [TOKEN],
            lambda s: [self._race_again(s, weights_BV, numbers, (token_B1, weight_B1, refused_B1))],
            lambda s: s.same(token_B1),
        )[0]

    def _refused_rarely(self, region: Region, weights_BV: str, weight_B1: str) -> str:
        """With limits that depend on the weights."""
        asked = Asked(*(unsqueezed(region, name) for name in ("top_k", "top_p")))
        limits = by_weight(region, weights_BV, self.limits, asked)
        by_k_or_p_B1 = refused(region, weights_BV, weight_B1, limits)
        by_min_p_B1 = region.node("Less", [weight_B1, limits.min_p_B1], "by_min_p")
        return region.node("Or", [by_k_or_p_B1, by_min_p_B1], "by_any")

    def _race_again(
        self, region: Region, weights_BV: str, numbers: Numbers, first: tuple[str, str, str]
    ) -> str:
        """The refused rows alone race on among what weighs more than the loser before."""
        token_B1, weight_B1, refused_B1 = first
        places = region.node("NonZero", [refused_B1], "refused/places")
        rows_R = region.node("Gather", [places, region.constant("zeroth", 0)], "refused/rows")

        def picked(tensor: str, name: str) -> str:
            return region.node("Gather", [tensor, rows_R], f"picked/{name}")

        weights_RV, key_R1 = picked(weights_BV, "weights"), picked(numbers.key_B1, "key")
        position_B1 = region.node(
            "Add", [unsqueezed(region, "positions"), numbers.step], "position"
        )
        counter_R1 = counter(region, picked(position_B1, "position"))
        asked = Asked(*(picked(unsqueezed(region, n), n) for n in ("top_k", "top_p")))
        own = Limits(*(picked(t, f"{n}/own") for n, t in self.limits._asdict().items()))

        def rare(s: Region) -> list[str]:
            return list(by_weight(s, weights_RV, own, asked)[1:])

        shares = region.when(
            self.flags.rare,
            "limits",
            [(np.float32, COLUMN)] * 2,
            rare,
            lambda s: s.same(own.top_p_B1, own.min_p_B1),
        )
        limits = Limits(own.top_k_B1, *shares)

        def body(
            s: Region, number: str, state: Sequence[str]
        ) -> tuple[str, Sequence[str], Sequence[str]]:
            left_RV, weight_R1, token_R1, refused_R1 = state
            left_RV = s.node("Mul", [left_RV, heavier(s, left_RV, weight_R1)], "left")
            logs_RJ = uniform_logs(s, key_R1, next_counter(s, counter_R1, number), self.blocks)
            winner = self._race(s, left_RV, logs_RJ)
            weight_R1 = weight(s, winner)
            by_k_or_p_R1 = refused(s, left_RV, weight_R1, limits)
            by_min_p_R1 = s.node("Less", [weight_R1, limits.min_p_B1], "by_min_p")
            lost_R1 = s.node("Or", [by_k_or_p_R1, by_min_p_R1], "lost")
            token_R1 = s.node("Where", [refused_R1, winner.token_B1, token_R1], "token")
            refused_R1 = s.node("And", [refused_R1, lost_R1], "still_refused")
            go_on = s.node("ReduceMax", [refused_R1], "go_on", keepdims=0)
            return go_on, [left_RV, weight_R1, token_R1, refused_R1], ()

        width = self.blocks.number * self.blocks.size
        state: list[tuple[str, Kind]] = [
            (weights_RV, (np.float32, ("rows", width))),
            (picked(weight_B1, "weight"), (np.float32, COLUMN)),
            (picked(token_B1, "token"), TOKEN),
            (picked(refused_B1, "refused"), REFUSED),
        ]
        most, go = region.constant("most_races", width), region.constant("go", np.array(True))
        _, _, last_R1, _ = region.loop("races", most, go, state, body)
        column = region.constant("rows/axis", [1])
        rows_R1 = region.node("Unsqueeze", [rows_R, column], "refused/column")
        return region.node("ScatterElements", [token_B1, rows_R1, last_R1], "tokens", axis=0)


# ---------------------------------------------------------------------- what a race is made of


def in_blocks(region: Region, rows_BV: str, blocks: Blocks) -> str:
    """[B, V] -> [B, N, S]."""
    shape = region.constant("blocks/shape", [-1, *blocks])
    return region.node("Reshape", [rows_BV, shape], "blocks")


def token_id(region: Region, block_B1: str, place_B1: str, blocks: Blocks) -> str:
    start_B1 = region.node("Mul", [block_B1, region.constant("block/size", blocks.size)], "start")
    return region.node("Add", [start_B1, place_B1], "id")


def weight(region: Region, winner: Winner) -> str:
    """[B, 1]."""
    return region.node("GatherElements", [winner.row_BS, winner.place_B1], "weight", axis=1)
