"""`python -m benchmarks.gpt2_cache pretrained`: what the baseline gains from a cache in place.

Time of one more token of every row of the shipped GPT-2, on one thread: export/gpt2/cached.py
(onnxruntime's GroupQueryAttention, whose cache is updated in place) against concat_gpt2.py (a cache
that every step copies to make it longer by one), in fp32 and in the int8 that a server uses for the
batch. Both are bound to arrays that are made beforehand, both give logits, and they take turns;
a figure is the median of the thread's CPU time, in which other processes count little. Before they
are timed they must agree with each other. Writes benchmarks/gpt2-cache.md, or the file of --out.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.concat_gpt2 import unroll_concat_gpt2
from benchmarks.report import provenance, table
from export.checks.timing import interleaved
from export.gpt2.cached import unroll_gpt2
from export.precisions.convert import convert
from export.precisions.table import TABLE
from luminanet import interface
from luminanet.artifact.manifest import Precision
from luminanet.errors import LuminaNetError, VerificationError
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import LENGTHS, LOGITS, TOKENS, cache_of, present, presents
from serving.runtimes.onnxruntime_cpu import OrtCpu
from training.checkpoint import load

BATCHES = (1, 32)
POSITIONS = (16, 64, 128, 255)
ROUNDS = 41
APART = 2 * TABLE[Precision.INT8].bound
"""Two int8 graphs round at different places; fp32 ones are far closer than that."""
HERE = Path(__file__).parent
PAGE = HERE / "gpt2-cache.md"
HEADER = ("precision", "batch", "position", "in place, ms", "concatenated, ms", "in place is")

Arrays = dict[str, NDArray[Any]]
Bound = tuple[Callable[[], None], NDArray[np.float32]]
"""One step, and the logits that it writes."""


def state(net: Gpt2Net, batch: int, past: int, seed: int = 0) -> Arrays:
    """The newest tokens, and keys and values of `past` tokens before them, all random."""
    rng, config = np.random.default_rng(seed), net.config
    shape = (batch, config.heads, past, config.width // config.heads)
    made: Arrays = {TOKENS: rng.integers(0, config.vocab_size, (batch, 1))}
    return made | {n: rng.standard_normal(shape, np.float32) for n in interface.of(net).pasts}


def in_place(net: Gpt2Net, model: onnx.ModelProto, given: Arrays) -> Bound:
    """export/gpt2/cached.py: present is bound to the memory of past."""
    caches = cache_of(given)
    batch, _, past, _ = next(iter(caches.values())).shape
    room = ((0, 0), (0, 0), (0, net.config.context - past), (0, 0))
    caches = {name: np.pad(array, room) for name, array in caches.items()}
    inputs = {TOKENS: given[TOKENS], LENGTHS: np.full(batch, past, np.int32)}
    return _bound(net, model, inputs | caches, presents(caches))


def concatenated(net: Gpt2Net, model: onnx.ModelProto, given: Arrays) -> Bound:
    """concat_gpt2.py: present is one longer than past."""
    longer = ((0, 0), (0, 0), (0, 1), (0, 0))
    grown = {present(n): np.pad(a, longer) for n, a in cache_of(given).items()}
    return _bound(net, model, given, grown)


def _bound(net: Gpt2Net, model: onnx.ModelProto, inputs: Arrays, caches: Arrays) -> Bound:
    logits_BV = np.zeros((len(inputs[TOKENS]), net.config.vocab_size), np.float32)
    runtime = OrtCpu(model.SerializeToString(), 1, "GPT-2")
    return runtime.bind(inputs, {LOGITS: logits_BV, **caches}), logits_BV


def compare(net: Gpt2Net, batch: int, past: int, is_int8: bool, rounds: int) -> tuple[float, float]:
    """Milliseconds of a step in place, and of one that concatenates.

    Raises VerificationError when their logits are apart.
    """
    few, many = Precision.INT8, Precision.INT8_BATCH
    precision = (many if batch >= TABLE[many].from_batch else few) if is_int8 else Precision.FP32
    models = (convert(made, precision) for made in (unroll_gpt2(net), unroll_concat_gpt2(net)))
    given = state(net, batch, past)
    forms = (in_place, concatenated)
    bound = [form(net, model, given) for form, model in zip(forms, models, strict=True)]
    for step, _ in bound:
        step()
    (_, found_BV), (_, other_BV) = bound
    apart = float(np.sqrt(np.mean((found_BV - other_BV) ** 2) / np.mean(found_BV**2)))
    if not apart <= (APART if is_int8 else TABLE[Precision.FP32].bound):
        raise VerificationError(
            f"the two caches give logits that are {apart:.1e} apart at batch {batch}, position "
            f"{past}: nothing is timed; report this with the checkpoint"
        )
    seconds = interleaved({number: step for number, (step, _) in enumerate(bound)}, rounds)
    return 1000 * seconds[0], 1000 * seconds[1]


def rows(
    net: Gpt2Net, rounds: int, batches: Sequence[int] = BATCHES, positions: Sequence[int] = ()
) -> list[list[str]]:
    """Of the table; `positions` are all of POSITIONS that fit, unless given."""
    found = []
    for is_int8 in (False, True):
        for batch in batches:
            for past in positions or [p for p in POSITIONS if p < net.config.context]:
                ours, theirs = compare(net, batch, past, is_int8, rounds)
                cells = [f"{ours:.3f}", f"{theirs:.3f}", f"{theirs / ours:.2f}x as fast"]
                found.append(["int8" if is_int8 else "fp32", str(batch), str(past), *cells])
                print(" | ".join(found[-1]), flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpt2_cache", description=__doc__)
    add = parser.add_argument
    add("root", type=Path, help="folder with gpt2-tinystories/ckpt.pt")
    add("--rounds", type=int, default=ROUNDS, help="turns of each form (default %(default)s)")
    add("--out", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args(argv)
    try:
        net = load(arguments.root / "gpt2-tinystories" / "ckpt.pt").net
        assert isinstance(net, Gpt2Net)
        report = table(HEADER, rows(net, arguments.rounds))
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = f"python -m benchmarks.gpt2_cache {arguments.root.name} --rounds {arguments.rounds}"
    source = provenance(command, ("onnxruntime", "onnx", "numpy"), "0")
    title = "# GPT-2: a cache in place against one that is concatenated\n\n"
    legend = (
        "Milliseconds for one more token of every row, one thread. The position is the number of "
        "tokens in the cache. int8 is what a server uses for that batch.\n\n"
    )
    arguments.out.write_text(f"{title}{legend}{report}\n{source}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
