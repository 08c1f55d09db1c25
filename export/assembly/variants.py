"""Network -> which graphs an artifact holds: forms, precisions, roles (build.py makes them).

model.onnx              float32: always there
model.batch.onnx        float32 in the form that is faster for batches on a CPU, if one is
model.int8.onnx         int8 for single requests, on a CPU
model.int8-batch.onnx   int8 for batches, on a CPU
model.fp16.onnx, model.bf16.onnx, model.qdq.onnx    for TensorRT
model.tensorrt.onnx     float32 for TensorRT: of a GPT-2, whose model.onnx only onnxruntime reads
decode.onnx, decode.batch.onnx, decode.int8.onnx, decode.int8-batch.onnx    text, on a CPU: each is
                        the model.* graph of that name with the sampler inside (decode.py); of a
                        GPT-2 one for every number K of tokens a call: decode.K.onnx, ...
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx

from export.checks.assess import Net
from export.checks.examples import Examples
from export.network.choose import AUTO, choose
from export.precisions.table import TABLE, WORDS, Row
from luminanet.artifact.manifest import (
    DECODE,
    MAX_STEPS,
    MODEL,
    TENSORRT_MODEL,
    Precision,
    Role,
    Runtime,
)
from luminanet.errors import ConfigError, ExportError
from luminanet.fields import TextInput
from luminanet.gpt2 import Gpt2Net

BATCH_MODEL = "model.batch.onnx"
GPT2, PLAIN = "gpt2", "plain"
"""The forms of a GPT-2: for onnxruntime (cached.py), and for TensorRT (gpt2/standard_ops.py)."""
STEPS, STEPS_INT8 = (1,), (1, 4)
"""Tokens that a call of a GPT-2's decode graph draws, unless others are asked for. A server calls a
graph of one token several times, which needs least memory; in int8 a single row would be 15 to 24 %
slower so, and the graph of one token reads its prompts alone."""
NO_DECODE = "none"


@dataclass(frozen=True, slots=True)
class Request:
    """What to freeze a network to. Without examples, random inputs verify the graphs."""

    form: str = AUTO
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    examples: Examples | None = None
    tensorrt: bool = False
    """Adds a graph in float32 that TensorRT reads, where the plain one is not."""
    decode: tuple[int, ...] = STEPS
    """Tokens a call of the graphs that decode text; none leaves these graphs out."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A graph that is to be made."""

    file: str
    precision: Precision
    form: str
    reason: str
    from_batch: int = 1
    runtime: Runtime = Runtime.ANY
    role: Role = Role.LOGITS
    steps: int = 0
    unrolled: onnx.ModelProto | None = field(default=None, repr=False, compare=False)
    """The network in this form and float32, if it is there already."""


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """Words with commas -> precisions, float32 first. Raises ConfigError."""
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ConfigError(f"there is no precision {unknown[0]!r}: choose from {', '.join(WORDS)}")
    wanted = {precision for word in ("fp32", *words) for precision in WORDS[word]}
    return tuple(precision for precision in Precision if precision in wanted)


def parse_decode(text: str) -> tuple[int, ...]:
    """Numbers of tokens with commas, or "none" -> the numbers, rising. Raises ConfigError."""
    if text.strip() == NO_DECODE:
        return ()
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1 or found[-1] > MAX_STEPS:
        raise ConfigError(
            f"--decode is {text!r}: give numbers of tokens from 1 to {MAX_STEPS} with commas, "
            f"or {NO_DECODE}"
        )
    return tuple(found)


def variants(net: Net, request: Request) -> list[Variant]:
    """What an artifact of this network holds; the plain graph comes first.

    Raises ExportError for a form that does not exist, and for a precision that is calibrated
    without inputs to do it.
    """
    given = request.examples
    rows = [TABLE[precision] for precision in request.precisions]
    blind = [row.word for row in rows if row.calibrated and not (given and given.feeds)]
    if blind:
        raise ExportError(
            f"{blind[0]} is calibrated on real inputs: add --examples with a file that has some "
            "(python -m benchmarks.examples CHECKPOINT writes one)"
        )
    plain = _plain(net, request.form)
    by_precision = [
        Variant(
            file=row.file,
            precision=row.precision,
            form=_form(net, plain, row),
            reason=row.reason,
            from_batch=row.from_batch,
            runtime=row.runtime,
        )
        for row in rows
        if row.precision is not Precision.FP32
    ]
    if request.tensorrt and isinstance(net, Gpt2Net):
        reason = "standard operators alone, for TensorRT"
        plain.append(
            Variant(TENSORRT_MODEL, Precision.FP32, PLAIN, reason, runtime=Runtime.TENSORRT)
        )
    found = plain + by_precision
    return found + [v for of in found for v in _decoding(net, of, request.decode)]


def _decoding(net: Net, of: Variant, steps: Sequence[int]) -> list[Variant]:
    """The graphs that decode with a graph that gives logits on a CPU: for a LuminaNet one."""
    is_gpt2 = isinstance(net, Gpt2Net)
    is_text = isinstance(net, Gpt2Net) or isinstance(net.topology.input, TextInput)
    if not is_text or not steps or of.runtime is Runtime.TENSORRT:
        return []
    if steps == STEPS and of.precision is not Precision.FP32:
        steps = STEPS_INT8
    made = "the sampler is inside"
    return [
        replace(
            of,
            file=of.file.replace("model", f"{DECODE}.{count}" if count else DECODE, 1),
            reason=f"{made}, {count or 'any number of'} tokens a call" if count != 1 else made,
            runtime=Runtime.CPU,
            role=Role.DECODE,
            steps=count,
        )
        for count in (steps if is_gpt2 else (0,))
    ]


def _form(net: Net, plain: Sequence[Variant], row: Row) -> str:
    """The form of the graph that is converted to another precision."""
    if isinstance(net, Gpt2Net):
        return PLAIN if row.runtime is Runtime.TENSORRT else GPT2
    return plain[0 if row.from_batch == 1 else -1].form


def _plain(net: Net, form: str) -> list[Variant]:
    """The graphs in float32: one, or two that share the batch sizes."""
    fp32 = Precision.FP32
    if isinstance(net, Gpt2Net):
        reason = "a GPT-2 has one form for onnxruntime"
        return [Variant(MODEL, fp32, GPT2, reason, runtime=Runtime.CPU)]
    (_, first), *more = choose(net, form).items()
    return [
        Variant(MODEL, fp32, first.form, first.reason, unrolled=first.graph),
        *(
            Variant(
                file=BATCH_MODEL,
                precision=fp32,
                form=chosen.form,
                reason=chosen.reason,
                from_batch=from_batch,
                runtime=Runtime.CPU,
                unrolled=chosen.graph,
            )
            for from_batch, chosen in more
        ),
    ]
