"""float32 graph -> the same graph in another precision of table.py: the one door to this package.

Inputs and outputs stay float32 and keep their names. The same arguments give the same bytes.
"""

import onnx

from export.precisions.integers import OURS, Rounding
from export.precisions.qdq import Ranges
from export.precisions.table import TABLE, Means
from luminanet.artifact.manifest import Precision
from luminanet.errors import ExportError


def convert(
    model: onnx.ModelProto,
    precision: Precision,
    calibration: Ranges | None = None,
    how: Rounding = OURS,
) -> onnx.ModelProto:
    """`model` is a float32 graph of this exporter, nested graphs included.

    `calibration` (qdq.calibrate) is for a calibrated precision; without it that raises ExportError.
    `how` weights of int8 and int8-batch are rounded: others are for comparison.
    """
    return TABLE[precision].convert(model, _means(precision, calibration, how))


def runnable(
    model: onnx.ModelProto, precision: Precision, calibration: Ranges | None = None
) -> onnx.ModelProto:
    """What `convert` gives, in a form that onnxruntime runs on a CPU with the same rounding.

    It has no kernels for most of fp16 and bf16: there, weights and results are rounded to the
    type, and computed with in float32.
    """
    row = TABLE[precision]
    return (row.runnable or row.convert)(model, _means(precision, calibration))


def _means(precision: Precision, calibration: Ranges | None, how: Rounding = OURS) -> Means:
    if TABLE[precision].calibrated and calibration is None:
        raise ExportError(f"{precision} needs ranges measured on real inputs: calibrate first")
    return Means(calibration or {}, how)
