"""The random numbers of the draw as nodes: the very words of luminanet/sampling.py.

Words of 64 bits are added and multiplied modulo 2^64, as uint64 does. Shape legend: B rows,
J uniform numbers of one race.
"""

import numpy as np
import onnx

from export.graph.region import Region
from luminanet import sampling
from luminanet.sampling import Blocks

UINT64, FLOAT = onnx.TensorProto.UINT64, onnx.TensorProto.FLOAT


def counter(region: Region, positions: str) -> str:
    """The counter of the first race's first number at int64 positions, uint64."""
    words = region.node("Cast", [positions], "position/words", to=UINT64)
    factor = np.uint64((sampling.COUNTER << sampling.POSITION_SHIFT) % 2**64)
    return region.node("Mul", [words, region.constant("position/factor", factor)], "counter")


def next_counter(region: Region, counter_R1: str, number: str) -> str:
    """The counter of the race after `number` + 1 others (an int64 scalar)."""
    before = region.node("Cast", [number], "race/number", to=UINT64)
    attempt = region.node("Add", [before, region.constant("race/first", np.uint64(1))], "attempt")
    factor = np.uint64((sampling.COUNTER << sampling.ATTEMPT_SHIFT) % 2**64)
    ahead = region.node("Mul", [attempt, region.constant("race/factor", factor)], "race/ahead")
    return region.node("Add", [counter_R1, ahead], "race/counter")


def uniform_logs(region: Region, key: str, counter: str, blocks: Blocks) -> str:
    """log(u) of one race, [.., J] for key and counter [.., 1]; the words of sampling.words."""

    def word(name: str, value: int) -> str:
        return region.constant(f"words/{name}", np.uint64(value))

    def mixed(x: str, bits: int, factor: int, name: str) -> str:
        by = word(f"{name}/bits", bits)
        shifted = region.node("BitShift", [x, by], f"{name}/shifted", direction="RIGHT")
        folded = region.node("BitwiseXor", [x, shifted], f"{name}/folded")
        return region.node("Mul", [folded, word(f"{name}/factor", factor)], name)

    indices_J = np.arange(blocks.indices, dtype=np.uint64) * np.uint64(sampling.COUNTER)
    indices = region.constant("words/indices", indices_J)
    counters = region.node("Add", [counter, indices], "words/counters")
    x = region.node("BitwiseXor", [key, counters], "words")
    x = mixed(x, 30, sampling.MIX_1, "words/mix1")
    x = mixed(x, 27, sampling.MIX_2, "words/mix2")
    low = word("low_bits", 64 - sampling.UNIFORM_BITS)
    high = region.node("BitShift", [x, low], "words/high", direction="RIGHT")
    floats = region.node("Cast", [high], "words/floats", to=FLOAT)
    step = np.float32(0.5**sampling.UNIFORM_BITS)
    scaled = region.node("Mul", [floats, region.constant("unit_step", step)], "uniform/low")
    half = region.constant("half_step", step / np.float32(2))
    return region.node("Log", [region.node("Add", [scaled, half], "uniform")], "uniform/log")
