"""The sampler as nodes: logits in, token ids out; its oracle is luminanet/sampling.py.

Every row of a batch has its own parameters, given as inputs [batch] (interface.SAMPLER):

    temperature, top_p, min_p, repetition_penalty float32; top_k, seeds, positions int64

with the meaning of sampling.Sampling; `positions` says how many tokens the text of a row has drawn
before. What no row asks for is not computed (If), and what a neighbour asks for never changes a
row's token. The draw itself is in gumbel.py.

Shape legend: B batch, K steps, V vocabulary (padded to whole blocks), N blocks, S size of a block,
J = N + S, L tokens in a window.
"""

import numpy as np

from export.decoding.counter_rng import FLOAT, UINT64, counter, uniform_logs
from export.decoding.filters import Flags, Limits
from export.decoding.gumbel import COLUMN, TOKEN, Numbers, Races, in_blocks, token_id
from export.graph.builder import Graph
from export.graph.region import Kind, Region
from luminanet import sampling
from luminanet.reference import NO_TOKEN

LEAST_SHARE = np.float32(1e-30)
FLAG: Kind = (np.bool_, ())


class Sampler:
    """Adds to `graph`, which has SAMPLER as inputs, what all steps share; `choose` adds one step.

    `steps` is the number of steps of a call, an int64 scalar.
    """

    def __init__(self, graph: Graph, vocab_size: int, steps: str) -> None:
        self.vocab_size = vocab_size
        self.blocks = sampling.blocks(vocab_size)
        region = Region(graph, "sampler/")
        zero, one = region.constant("zero", np.float32(0)), region.constant("one", np.float32(1))
        coldest = region.node("ReduceMin", ["temperature"], "coldest", keepdims=0)
        all_warm = region.node("Greater", [coldest, zero], "all_warm")
        hottest = region.node("ReduceMax", ["temperature"], "hottest", keepdims=0)
        self.any_warm = region.node("Greater", [hottest, zero], "any_warm")
        plain_B = region.node("Equal", ["repetition_penalty", one], "plain")
        self.all_plain = region.node("ReduceMin", [plain_B], "all_plain", keepdims=0)
        self.usual = region.node("And", [all_warm, self.all_plain], "usual")
        shared = _shared(region, self.any_warm, self.blocks, steps)
        self.inverse_B1, self.greedy_B1, self.logs_BKJ, self.keys_B1 = shared[:4]
        self.races = Races(self.blocks, Limits(*shared[4:7]), Flags(*shared[7:]))

    def choose(
        self, graph: Graph, prefix: str, logits_BV: str, seen_BL: str, step: str
    ) -> tuple[str, str]:
        """Token ids [B, 1] and their log-probabilities, NaN where the logits name no token.

        A penalty is for the tokens in `seen_BL`; `step` is the number of this step, an int64
        scalar. `graph` may be the body of a Loop in the graph of this sampler. For a row without
        a token the id is any; `tokens` corrects it.
        """
        region = Region(graph, prefix)
        logs_BV = region.node("LogSoftmax", [logits_BV], "log_probabilities", axis=1)
        (token_B1,) = region.when(
            self.usual,
            "token",
            [TOKEN],
            lambda s: [self._sample(s, self._whole_blocks(s, logits_BV), step)],
            lambda s: [self._unusual(s, logits_BV, seen_BL, step)],
        )
        return token_B1, region.node("GatherElements", [logs_BV, token_B1], "log", axis=1)

    def _unusual(self, region: Region, logits_BV: str, seen_BL: str, step: str) -> str:
        return region.when(
            self.all_plain,
            "plain",
            [TOKEN],
            lambda s: [self._pick(s, logits_BV, step)],
            lambda s: [self._pick(s, self._penalised(s, logits_BV, seen_BL), step)],
        )[0]

    def _pick(self, region: Region, logits_BV: str, step: str) -> str:
        """For rows of which some may be greedy."""
        logits_BV = self._whole_blocks(region, logits_BV)

        def by_row(s: Region) -> list[str]:
            drawn_B1, best_B1 = self._sample(s, logits_BV, step), self._best(s, logits_BV)
            return [s.node("Where", [self.greedy_B1, best_B1, drawn_B1], "by_row")]

        return region.when(
            self.any_warm, "picked", [TOKEN], by_row, lambda s: [self._best(s, logits_BV)]
        )[0]

    def _penalised(self, region: Region, logits_BV: str, seen_BL: str) -> str:
        """The logits of seen tokens divided or multiplied. Empty places repeat a seen token,
        so that what is scattered never disagrees; without any, all keep their logits."""
        zero, first = region.constant("zero", np.float32(0)), region.constant("first", 0)
        column = region.constant("column", [1])
        penalty_B1 = region.node("Unsqueeze", ["repetition_penalty", column], "penalty")
        empty_BL = region.node("Less", [seen_BL, first], "empty")
        known_B1 = region.node("ReduceMax", [seen_BL, column], "known")
        ids_BL = region.node("Where", [empty_BL, known_B1, seen_BL], "ids")
        none_B1 = region.node("Less", [known_B1, first], "nothing_seen")
        old_BL = region.node("GatherElements", [logits_BV, ids_BL], "old", axis=1)
        less_BL = region.node("Div", [old_BL, penalty_B1], "divided")
        more_BL = region.node("Mul", [old_BL, penalty_B1], "multiplied")
        positive_BL = region.node("Greater", [old_BL, zero], "positive")
        new_BL = region.node("Where", [positive_BL, less_BL, more_BL], "penalised")
        safe_BL = region.node("Where", [none_B1, old_BL, new_BL], "new")
        return region.node("ScatterElements", [logits_BV, ids_BL, safe_BL], "logits", axis=1)

    def _whole_blocks(self, region: Region, logits_BV: str) -> str:
        missing = self.blocks.number * self.blocks.size - self.vocab_size
        if not missing:
            return logits_BV
        ends = region.constant("padding", [0, 0, 0, missing])
        never = region.constant("never", np.float32(-np.inf))
        return region.node("Pad", [logits_BV, ends, never], "padded")

    def _best(self, region: Region, logits_BV: str) -> str:
        """The exact argmax, in two stages: onnxruntime's ArgMax of a long row is slow."""
        region = Region(region.graph, f"{region.prefix}best/")
        rows_BNS = in_blocks(region, logits_BV, self.blocks)
        axis = region.constant("last_axis", [2])
        highest_BN = region.node("ReduceMax", [rows_BNS, axis], "highest", keepdims=0)
        block_B1 = region.node("ArgMax", [highest_BN], "block", axis=1)
        row_BS = region.node("GatherND", [rows_BNS, block_B1], "row", batch_dims=1)
        place_B1 = region.node("ArgMax", [row_BS], "place", axis=1)
        return token_id(region, block_B1, place_B1, self.blocks)

    def _sample(self, region: Region, logits_BV: str, step: str) -> str:
        scaled_BV = region.node("Mul", [logits_BV, self.inverse_B1], "scaled")
        weights_BV = region.node("Softmax", [scaled_BV], "weights", axis=1)
        logs_BJ = region.node("Gather", [self.logs_BKJ, step], "clocks", axis=1)
        return self.races.draw(region, weights_BV, Numbers(logs_BJ, self.keys_B1, step))


def tokens(graph: Graph, ids: str, logs: str, name: str) -> str:
    """The ids, and NO_TOKEN where the log-probabilities are NaN."""
    lost = graph.node("IsNaN", [logs], f"{name}/lost")
    nothing = graph.constant(f"{name}/no_token", np.array(NO_TOKEN))
    return graph.node("Where", [lost, nothing, ids], name)


def _shared(region: Region, any_warm: str, blocks: sampling.Blocks, steps: str) -> list[str]:
    """1 / temperature, greedy rows, random numbers [B, K, J], seeds times their factor, three
    limits and two flags; nothing is computed when all rows are greedy."""
    column = (np.float32, COLUMN)
    numbers: Kind = (np.float32, ("rows", "steps", blocks.indices))
    kinds: list[Kind] = [column, (np.bool_, COLUMN), numbers, (np.uint64, COLUMN)]
    kinds += [column] * 3 + [FLAG] * 2

    def warm(s: Region) -> list[str]:
        return [*_scale(s), *_numbers(s, blocks, steps), *_limits(s)]

    def cold(s: Region) -> list[str]:
        shapes = [[size if isinstance(size, int) else 1 for size in kind[1]] for kind in kinds]
        arrays = [np.zeros(n, kind[0]) for n, kind in zip(shapes, kinds, strict=True)]
        return [s.constant(f"nothing{i}", array) for i, array in enumerate(arrays)]

    return region.when(any_warm, "warm", kinds, warm, cold)


def _scale(region: Region) -> list[str]:
    axis, zero = region.constant("columns", [1]), region.constant("zero", np.float32(0))
    temperature_B1 = region.node("Unsqueeze", ["temperature", axis], "temperature")
    lowest = region.constant("lowest", np.float32(sampling.LOWEST_TEMPERATURE))
    bounded_B1 = region.node("Max", [temperature_B1, lowest], "bounded")
    inverse_B1 = region.node("Reciprocal", [bounded_B1], "inverse")
    return [inverse_B1, region.node("LessOrEqual", [temperature_B1, zero], "greedy")]


def _numbers(region: Region, blocks: sampling.Blocks, steps: str) -> list[str]:
    """log(u) of the first race of every step, and the keys [B, 1]."""
    axes, last = region.constant("axes", [1, 2]), region.constant("last_axis", [2])
    seeds_B11 = region.node("Unsqueeze", ["seeds", axes], "seeds")
    words_B11 = region.node("Cast", [seeds_B11], "seeds/words", to=UINT64)
    factor = region.constant("seeds/factor", np.uint64(sampling.SEED))
    keys_B11 = region.node("Mul", [words_B11, factor], "keys")
    zero, one = region.constant("number/0", 0), region.constant("number/1", 1)
    ahead_K = region.node("Range", [zero, steps, one], "ahead")
    ahead_K1 = region.node("Unsqueeze", [ahead_K, region.constant("columns", [1])], "ahead/column")
    positions_B11 = region.node("Unsqueeze", ["positions", axes], "positions")
    positions_BK1 = region.node("Add", [positions_B11, ahead_K1], "positions/each")
    counters_BK1 = counter(region, positions_BK1)
    logs_BKJ = uniform_logs(region, keys_B11, counters_BK1, blocks)
    return [logs_BKJ, region.node("Squeeze", [keys_B11, last], "keys/column")]


def _limits(region: Region) -> list[str]:
    """races.Limits and races.Flags."""
    axis, off = region.constant("columns", [1]), region.constant("off", np.float32(np.inf))
    zero, one = region.constant("zero", np.float32(0)), region.constant("one", np.float32(1))
    has_k_B = region.node("Greater", ["top_k", region.constant("none", 0)], "top_k/on")
    has_p_B = region.node("Less", ["top_p", one], "top_p/on")
    has_m_B = region.node("Greater", ["min_p", zero], "min_p/on")
    counts_B = region.node("Cast", ["top_k"], "top_k/counts", to=FLOAT)
    k_B = region.node("Where", [has_k_B, counts_B, off], "top_k/or_off")
    shares_B = region.node("Max", ["top_p", region.constant("least", LEAST_SHARE)], "top_p/shares")
    p_B = region.node("Where", [has_p_B, shares_B, off], "top_p/or_off")
    m_B = region.node("Min", ["min_p", one], "min_p/bounded")
    limits = {"top_k": k_B, "top_p": p_B, "min_p": m_B}
    k_or_p_B = region.node("Or", [has_k_B, has_p_B], "k_or_p")
    k_and_p_B = region.node("And", [has_k_B, has_p_B], "k_and_p")
    flags = {
        "any_cut": region.node("Or", [k_or_p_B, has_m_B], "cut"),
        "any_rare": region.node("Or", [k_and_p_B, has_m_B], "rare"),
    }
    return [
        *(region.node("Unsqueeze", [rows, axis], f"{name}/limit") for name, rows in limits.items()),
        *(region.node("ReduceMax", [rows], name, keepdims=0) for name, rows in flags.items()),
    ]
