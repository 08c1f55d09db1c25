"""Precisions, one row each: all that freezing, checking and converting know about one.

    precision    runs on                  weights        activations            verified by
    fp32         everything               float32        float32                verify.py
    int8         onnxruntime, CPU         int8, blocks   int8 per row & block   the graph itself
    int8-batch   onnxruntime, any CPU     int8, columns  int8 per tensor        the graph itself
    fp16, bf16   TensorRT                 half           half                   `runnable`
    qdq-int8     TensorRT, onnxruntime    int8, columns  int8, fixed scales     the graph itself

Another one is a member of luminanet.artifact.manifest.Precision, which also says what word it is
served for, a row here, and what converts a graph to it. Its operators, if new, have to be let in
by serving/models/graph_guard.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx

from export.precisions.cpu import dynamic, tables, weight_only
from export.precisions.half import BFLOAT16, FLOAT16, half
from export.precisions.integers import OURS, Rounding
from export.precisions.qdq import Ranges, quantised
from export.precisions.rewrite import rewrite
from luminanet.artifact.manifest import MODEL, Precision, Runtime


@dataclass(frozen=True, slots=True)
class Means:
    """What a conversion may use beside the graph."""

    ranges: Ranges
    """Of a precision that is `calibrated`: what qdq.calibrate found; else empty."""
    how: Rounding = OURS
    """How weights of int8 and int8-batch are rounded."""


Converter = Callable[[onnx.ModelProto, Means], onnx.ModelProto]
"""A float32 graph of this exporter, nested graphs included -> the same in another precision."""


@dataclass(frozen=True, slots=True)
class Row:
    """One precision."""

    precision: Precision
    word: str
    """What asks for it on the command line, with the others of this word."""
    file: str
    """Of the graph that gives logits."""
    runtime: Runtime
    bound: float
    """Root mean square of the logits' error over that of the logits: about three times the worst of
    the shipped networks on held-out data (benchmarks/precision.md)."""
    reason: str
    """One sentence for the manifest; that of float32 is why its form was chosen."""
    convert: Converter
    runnable: Converter | None = None
    """The same with the same rounding for onnxruntime on a CPU, where that cannot run the graph."""
    from_batch: int = 1
    """From this batch size on it is the fastest of its word (benchmarks/precision.md)."""
    calibrated: bool = False
    """It needs ranges that were measured on real inputs."""


def _plain(model: onnx.ModelProto, _: Means) -> onnx.ModelProto:
    return model


def _int8(model: onnx.ModelProto, means: Means) -> onnx.ModelProto:
    small = tables(model)
    return rewrite(model, lambda body: weight_only(body, small, how=means.how))


def _int8_batch(model: onnx.ModelProto, means: Means) -> onnx.ModelProto:
    small = tables(model)
    return rewrite(model, lambda body: dynamic(body, small, how=means.how))


def _half(to: int, emulated: bool = False) -> Converter:
    return lambda model, _: rewrite(model, lambda body: half(body, to, emulated))


def _qdq(model: onnx.ModelProto, means: Means) -> onnx.ModelProto:
    return quantised(model, means.ranges)


ROWS = (
    Row(
        precision=Precision.FP32,
        word="fp32",
        file=MODEL,
        runtime=Runtime.ANY,
        bound=1e-5,
        reason="",
        convert=_plain,
    ),
    Row(
        precision=Precision.INT8,
        word="int8",
        file="model.int8.onnx",
        runtime=Runtime.CPU,
        bound=0.06,
        reason="int8 weights in blocks: fastest for single requests, and rows do not mix",
        convert=_int8,
    ),
    Row(
        precision=Precision.INT8_BATCH,
        word="int8",
        file="model.int8-batch.onnx",
        runtime=Runtime.CPU,
        bound=0.06,
        reason="int8 products of a whole batch: fastest from a few rows on",
        convert=_int8_batch,
        from_batch=4,
    ),
    Row(
        precision=Precision.FP16,
        word="fp16",
        file="model.fp16.onnx",
        runtime=Runtime.TENSORRT,
        bound=0.002,
        reason="half the bytes, for TensorRT",
        convert=_half(FLOAT16),
        runnable=_half(FLOAT16, emulated=True),
    ),
    Row(
        precision=Precision.BF16,
        word="bf16",
        file="model.bf16.onnx",
        runtime=Runtime.TENSORRT,
        bound=0.02,
        reason="half the bytes and the range of float32, for TensorRT",
        convert=_half(BFLOAT16),
        runnable=_half(BFLOAT16, emulated=True),
    ),
    Row(
        precision=Precision.QDQ_INT8,
        word="qdq",
        file="model.qdq.onnx",
        runtime=Runtime.TENSORRT,
        bound=0.1,
        reason="int8 with scales calibrated on real inputs, for TensorRT",
        convert=_qdq,
        calibrated=True,
    ),
)
TABLE: Mapping[Precision, Row] = MappingProxyType({row.precision: row for row in ROWS})
assert list(TABLE) == list(Precision)

WORDS: Mapping[str, tuple[Precision, ...]] = MappingProxyType(
    {
        word: tuple(row.precision for row in ROWS if row.word == word)
        for word in dict.fromkeys(row.word for row in ROWS)
    }
)
"""What can be asked for by name. The plain graph in float32 is always made."""
