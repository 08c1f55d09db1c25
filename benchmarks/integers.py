"""`python -m benchmarks.integers pretrained`: weights of 8 bits on CPUs that saturate and others.

For the graphs in int8 that `freeze.py --precision int8` makes of the shipped networks, three ways
to make integers of weights: each rounded by itself in the whole range of 8 bits; the same in 7
bits, which cannot saturate; and ours (export/precisions/integers.py). Each is assessed in exact
arithmetic and as a CPU without VNNI computes it (export/precisions/saturation.py), on the held-out
part of the training data; and timed at batch 1 and 32, all ways in turn, on one CPU thread of
onnxruntime, the median of the thread's CPU time. The data are those of benchmarks/examples.py.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import onnx

from benchmarks.examples import examples
from benchmarks.precision import bound
from benchmarks.report import provenance, table
from export.assembly.build import unrolled
from export.assembly.variants import Request, variants
from export.checks.assess import Answers, Assessment, Net, answer, assess
from export.checks.examples import Examples
from export.checks.timing import interleaved
from export.precisions.convert import convert
from export.precisions.integers import OURS, Rounding
from export.precisions.saturation import saturating
from luminanet.artifact.manifest import Precision
from luminanet.errors import LuminaNetError
from serving.runtimes.onnxruntime_cpu import OrtCpu
from training.checkpoint import load

PAGE = Path(__file__).parent / "integers.md"
INT8 = (Precision.INT8, Precision.INT8_BATCH)
BATCHES = (1, 32)
ROUNDS = 21


PLAIN = Rounding(pairs=False, sums=False)
WAYS: Mapping[str, Rounding] = {
    "8 bits, each rounded": PLAIN,
    "7 bits, each rounded": replace(PLAIN, levels=64),
    "pairs and sums (ours)": OURS,
}


class Row(NamedTuple):
    """`seconds`: batch size -> one forward."""

    graph: str
    way: str
    exact: Assessment
    saturated: Assessment
    seconds: Mapping[int, float]


def measure(net: Net, given: Examples) -> Iterator[Row]:
    known = answer(net, given.inputs, given.targets)
    for variant in variants(net, Request(precisions=(Precision.FP32, *INT8), decode=())):
        if variant.precision in INT8:
            plain = unrolled(net, variant.form)
            models = {way: convert(plain, variant.precision, how=how) for way, how in WAYS.items()}
            seconds = _seconds(models, net, given)
            for way, model in models.items():
                exact, cut = (_assessed(m, net, given, known) for m in (model, saturating(model)))
                yield Row(f"{variant.precision}, {variant.form}", way, exact, cut, seconds[way])


def _assessed(model: onnx.ModelProto, net: Net, given: Examples, known: Answers) -> Assessment:
    return assess(model, net, given.inputs, known)


def _seconds(
    models: Mapping[str, onnx.ModelProto], net: Net, given: Examples
) -> dict[str, dict[int, float]]:
    runtimes = {way: OrtCpu(m.SerializeToString(), 1, way) for way, m in models.items()}
    found: dict[str, dict[int, float]] = {way: {} for way in models}
    for batch in BATCHES:
        calls = {way: bound(runtime, net, given, batch) for way, runtime in runtimes.items()}
        for way, seconds in interleaved(calls, ROUNDS).items():
            found[way][batch] = seconds
    return found


def lines(name: str, row: Row, given: Examples) -> list[str]:
    def task(a: Assessment) -> list[str]:
        spelled = given.bytes_per_token * a.examples
        if spelled:
            return [f"{a.bits_per_byte(spelled):.4f} ({a.loss_lost:+.2%})"]
        return [f"{a.top1:.2%} ({-100 * a.top1_lost:+.2f})"]

    errors = [f"{a.typical:.1e}" for a in (row.exact, row.saturated)]
    times = [f"{1e6 * row.seconds[batch]:.0f}" for batch in BATCHES]
    return [name, row.graph, row.way, *errors, *task(row.exact), *task(row.saturated), *times]


def report(root: Path, data: str | None) -> str:
    rows = []
    for path in sorted(root.glob("*/ckpt.pt")):
        checkpoint = load(path)
        given = examples(checkpoint, data).examples
        for row in measure(checkpoint.net, given):
            rows.append(lines(checkpoint.name, row, given))
            print(" | ".join(rows[-1]), flush=True)
    head = ["network", "graph", "weights", "error", "error, saturating", "task"]
    head += ["task, saturating", *(f"batch {batch}, us" for batch in BATCHES)]
    return table(head, rows)


TEXT = """# Weights as integers (CPU)

Error: root mean square of the logits' error over that of the logits. Task: top-1 on images (points
lost or won against the reference in float64), bits per byte on text (share lost). Saturating: as a
CPU without VNNI computes, where products of bytes are added in pairs in 16 bits.

"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integers", description=__doc__)
    parser.add_argument("root", type=Path, help="folder with */ckpt.pt")
    parser.add_argument("--data", help="folder of Parquet files; default as in training")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    try:
        text = report(arguments.root, arguments.data)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = f"python -m benchmarks.integers {arguments.root}"
    source = provenance(command, ("onnxruntime", "onnx", "numpy"), "0")
    arguments.out.write_text(f"{TEXT}{text}\n{source}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
