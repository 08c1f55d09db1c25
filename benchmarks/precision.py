"""`python -m benchmarks.precision pretrained`: what each precision costs and what it loses.

For the shipped networks, on one CPU thread of onnxruntime: time of a forward (text: a token; GPT-2
at position 64) at several batch sizes, all precisions and forms in turn, several times; the median
of the thread's CPU time, as ratio to the fastest float32 form at that batch size. Error of the
logits against the numpy reference, and top-1 and bits per byte lost, on the held-out part of the
training data, of which a first part calibrates qdq-int8. fp16 and bf16 are assessed by rounding to
them (export/precisions/half.py); they are not timed, because a CPU has no kernels for them.
Synthetic networks of 64 clusters and 240 connections show what width does to the ratio; their
weights and images are random, so they have no task.

The data are those of benchmarks/examples.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.examples import examples
from benchmarks.forms import synthetic
from benchmarks.report import provenance, table
from export.checks.assess import Assessment, Net, answer, assess
from export.checks.examples import Examples
from export.checks.timing import interleaved
from export.checks.verify import random_cache
from export.gpt2.cached import unroll_gpt2
from export.network.lowerings import Form
from export.network.unroll import unroll
from export.precisions.convert import convert, runnable
from export.precisions.qdq import Ranges, calibrate
from luminanet import interface
from luminanet.artifact.manifest import Precision
from luminanet.errors import LuminaNetError
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import IMAGES, LENGTHS, LOGITS, TOKENS, presents
from serving.runtimes.onnxruntime_cpu import OrtCpu
from training.checkpoint import load

PAGE = Path(__file__).parent / "precision.md"
TIMED = (Precision.FP32, Precision.INT8, Precision.INT8_BATCH)
FORMS = (Form.BUS, Form.SHARED)
BATCHES = (1, 2, 4, 8, 32, 64)
POSITION = 64
ROUNDS = 21
SYNTHETIC_WIDTHS = (64, 128, 256)
SYNTHETIC_IMAGES = 100


@dataclass(frozen=True, slots=True)
class Row:
    """`seconds`: batch size -> one forward; empty for what is not timed."""

    form: str
    precision: Precision
    bytes: int
    assessment: Assessment
    seconds: Mapping[int, float]


def random_examples() -> Examples:
    """Images of noise, for networks that were never trained."""
    images = np.random.default_rng(0).random((2 * SYNTHETIC_IMAGES, 3, 32, 32), np.float32)
    first, rest = images[:SYNTHETIC_IMAGES], images[SYNTHETIC_IMAGES:]
    answers = np.zeros(len(rest), np.int64)
    return Examples(rest, answers, [{IMAGES: first}], has_task=False)


def graphs(net: Net) -> dict[str, onnx.ModelProto]:
    if isinstance(net, Gpt2Net):
        return {"gpt2": unroll_gpt2(net)}
    return {form.value: unroll(net, form) for form in FORMS}


def measure(net: Net, given: Examples, batches: Sequence[int]) -> list[Row]:
    """A row for every form and precision, float32 first."""
    known = answer(net, given.inputs, given.targets)
    models: dict[tuple[str, Precision], onnx.ModelProto] = {}
    assessments: dict[tuple[str, Precision], Assessment] = {}
    for form, graph in graphs(net).items():
        ranges: Ranges = calibrate(graph, given.feeds)
        for precision in Precision:
            models[form, precision] = convert(graph, precision, ranges)
            shown = runnable(graph, precision, ranges)
            assessments[form, precision] = assess(shown, net, given.inputs, known)
    timed = {key: model for key, model in models.items() if key[1] in TIMED}
    seconds: dict[tuple[str, Precision], dict[int, float]] = {key: {} for key in models}
    runtimes = {key: OrtCpu(model.SerializeToString(), 1, str(key)) for key, model in timed.items()}
    for batch in batches:
        calls = {key: bound(runtime, net, given, batch) for key, runtime in runtimes.items()}
        for key, found in interleaved(calls, ROUNDS).items():
            seconds[key][batch] = found
    return [
        Row(*key, model.ByteSize(), assessments[key], seconds[key]) for key, model in models.items()
    ]


def bound(runtime: OrtCpu, net: Net, given: Examples, batch: int) -> Callable[[], None]:
    """One forward of `batch` real inputs; GPT-2's cache is random, and updated in place."""
    feeds: dict[str, NDArray[Any]]
    cache: dict[str, NDArray[Any]] = {}
    if isinstance(net, Gpt2Net):
        cache = random_cache(net, batch, np.random.default_rng(0))
        tokens, lengths = np.resize(given.inputs, (batch, 1)), np.full(batch, POSITION, np.int32)
        feeds = {TOKENS: tokens, LENGTHS: lengths, **cache}
    else:
        feeds = interface.of(net).feeds(np.ascontiguousarray(given.inputs[:batch]))
    (width,) = (tensor.shape[1] for tensor in runtime.outputs if tensor.name == LOGITS)
    assert width, "logits of a width that is not fixed"
    return runtime.bind(feeds, {LOGITS: np.zeros((batch, width), np.float32), **presents(cache)})


def lines(name: str, rows: Sequence[Row], given: Examples) -> Iterator[list[str]]:
    best = {
        batch: min(row.seconds[batch] for row in rows if row.precision is Precision.FP32)
        for batch in rows[0].seconds
    }
    for row in rows:
        a = row.assessment
        spelled = given.bytes_per_token * a.examples
        task = f"{a.bits_per_byte(spelled):.4f}" if spelled else f"{a.top1:.2%}"
        times = [
            f"{1e6 * row.seconds[b]:.0f} ({best[b] / row.seconds[b]:.2f}x)" if row.seconds else "-"
            for b in best
        ]
        lost = [f"{100 * a.top1_lost:+.2f}", f"{a.loss_lost:+.2%}"]
        if not given.has_task:
            task, lost = "-", ["-", "-"]
        size, errors = f"{row.bytes / 1e6:.2f}", [f"{a.typical:.1e}", f"{a.difference:.1e}", task]
        yield [name, row.form, row.precision, size, *times, *errors, *lost]


def marks(name: str, rows: Sequence[Row], has_task: bool) -> str:
    """The questions of the page, answered for one network."""

    def best(precision: Precision, batch: int) -> Row:
        found = [row for row in rows if row.precision is precision]
        return min(found, key=lambda row: row.seconds[batch])

    batches = list(rows[0].seconds)
    whole, small = best(Precision.FP32, 1), best(Precision.INT8, 1)
    from_batch = next(
        (
            b
            for b in batches
            if best(Precision.INT8_BATCH, b).seconds[b] < best(Precision.INT8, b).seconds[b]
        ),
        None,
    )
    a = small.assessment
    same = next(r for r in rows if r.form == small.form and r.precision is Precision.FP32)
    loses = f"{100 * a.top1_lost:+.2f} points top-1 and {a.loss_lost:+.2%} of the loss lost"
    return (
        f"* **{name}**: at batch 1 int8 ({small.form}) is "
        f"{whole.seconds[1] / small.seconds[1]:.2f}x as fast as the fastest fp32 form "
        f"({whole.form}) and {same.seconds[1] / small.seconds[1]:.2f}x as fast as its own form in "
        f"fp32{'; ' + loses if has_task else ''}. "
        f"int8-batch is faster than int8 from batch {from_batch} on.\n"
    )


def networks(root: Path, data: str | None) -> Iterator[tuple[str, Net, Examples]]:
    for path in sorted(root.glob("*/ckpt.pt")):
        checkpoint = load(path)
        yield checkpoint.name, checkpoint.net, examples(checkpoint, data).examples
    for width in SYNTHETIC_WIDTHS:
        yield f"64 clusters of {width}", synthetic(width=width), random_examples()


def report(root: Path, data: str | None, batches: Sequence[int]) -> str:
    body, answers = [], []
    for name, net, given in networks(root, data):
        rows = measure(net, given, batches)
        body += list(lines(name, rows, given))
        answers.append(marks(name, rows, given.has_task))
        print(answers[-1], end="", flush=True)
    head = ["network", "form", "precision", "MB", *(f"batch {b}, us" for b in batches)]
    head += ["error (rms)", "error (max)", "top-1 or bits per byte", "points lost", "loss lost"]
    return "".join(answers) + "\n" + table(head, body)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("root", type=Path, help="folder with */ckpt.pt")
    parser.add_argument("--data", help="folder of Parquet files; default as in training")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="with commas")
    arguments = parser.parse_args()
    try:
        batches = [int(word) for word in arguments.batches.split(",")]
        text = report(arguments.root, arguments.data, batches)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    command = f"python -m benchmarks.precision {arguments.root}"
    source = provenance(command, ("onnxruntime", "onnx", "numpy"), "0")
    title = "# Precisions: time, size and what they lose (CPU, one thread)\n\n"
    arguments.out.write_text(f"{title}{text}\n{source}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
