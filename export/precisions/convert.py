"""float32 graph -> the same graph in another precision: the one door to this package.

    precision    runs on                  weights        activations            verified by
    fp32         everything               float32        float32                verify.py
    int8         onnxruntime, CPU         int8, blocks   int8 per row & block   the graph itself
    int8-batch   onnxruntime, any CPU     int8, columns  int8 per tensor        the graph itself
    fp16, bf16   TensorRT                 half           half                   `runnable`
    qdq-int8     TensorRT, onnxruntime    int8, columns  int8, fixed scales     the graph itself

Inputs and outputs stay float32 and keep their names. The same arguments give the same bytes.
"""

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from export.precisions.cpu import dynamic, tables, weight_only
from export.precisions.half import BFLOAT16, FLOAT16, half
from export.precisions.integers import OURS, Rounding
from export.precisions.qdq import Ranges, quantised
from export.precisions.rewrite import rewrite
from luminanet.artifact.manifest import Precision
from luminanet.errors import ExportError

HALVES = {Precision.FP16: FLOAT16, Precision.BF16: BFLOAT16}
BOUNDS: Mapping[Precision, float] = MappingProxyType(
    {
        Precision.FP32: 1e-5,
        Precision.INT8: 0.06,
        Precision.INT8_BATCH: 0.06,
        Precision.FP16: 0.002,
        Precision.BF16: 0.02,
        Precision.QDQ_INT8: 0.1,
    }
)
"""Root mean square of the logits' error over that of the logits: about three times the worst of
the shipped networks on held-out data (benchmarks/precision.md)."""


def convert(
    model: onnx.ModelProto,
    precision: Precision,
    calibration: Ranges | None = None,
    how: Rounding = OURS,
) -> onnx.ModelProto:
    """`model` is a float32 graph of this exporter, nested graphs included.

    `calibration` (qdq.calibrate) is for qdq-int8 alone; without it that raises ExportError.
    `how` weights of int8 and int8-batch are rounded: others are for comparison.
    """
    if precision is Precision.QDQ_INT8:
        if calibration is None:
            raise ExportError("qdq-int8 needs ranges measured on real inputs: calibrate first")
        return quantised(model, calibration)
    if precision is Precision.INT8:
        small = tables(model)
        return rewrite(model, lambda body: weight_only(body, small, how=how))
    if precision is Precision.INT8_BATCH:
        small = tables(model)
        return rewrite(model, lambda body: dynamic(body, small, how=how))
    if precision in HALVES:
        return rewrite(model, lambda body: half(body, HALVES[precision]))
    return model


def runnable(
    model: onnx.ModelProto, precision: Precision, calibration: Ranges | None = None
) -> onnx.ModelProto:
    """What `convert` gives, in a form that onnxruntime runs on a CPU with the same rounding.

    It has no kernels for most of fp16 and bf16: there, weights and results are rounded to the
    type, and computed with in float32.
    """
    if precision in HALVES:
        return rewrite(model, lambda body: half(body, HALVES[precision], emulated=True))
    return convert(model, precision, calibration)
