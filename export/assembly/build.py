"""Variants -> verified graphs: each is unrolled, converted to its precision and checked."""

from typing import NamedTuple

import onnx

from export.assembly.describe import Frozen
from export.assembly.variants import PLAIN, Variant
from export.checks.assess import Answers, Assessment, Net, answer, assess, check
from export.checks.examples import Examples, seeded
from export.checks.verify import TOLERANCE, verify
from export.checks.verify_decode import TOLERANCE as DECODE_TOLERANCE
from export.checks.verify_decode import verify_decode
from export.decoding.decode import decode_caches, decode_windows
from export.gpt2.cached import unroll_gpt2
from export.gpt2.standard_ops import unroll_plain_gpt2
from export.network.lowerings import Form
from export.network.unroll import unroll
from export.precisions.convert import convert, runnable
from export.precisions.qdq import Ranges, calibrate
from export.precisions.rewrite import graphs
from export.precisions.table import TABLE
from luminanet.artifact.manifest import GraphEntry, Precision, Role
from luminanet.gpt2 import Gpt2Net


class Made(NamedTuple):
    """A graph that was verified, and its error on this machine (as GraphEntry.verified_within)."""

    graph: Frozen
    error: float


class Maker:
    """Makes the variants of one network; what several of them need is computed once."""

    def __init__(self, net: Net, given: Examples | None = None) -> None:
        self._net = net
        self._examples = given or seeded(net)
        self._known: Answers | None = None
        self._graphs: dict[str, onnx.ModelProto] = {}
        self._ranges: dict[str, Ranges] = {}

    def answer(self) -> None:
        """Asks the numpy reference, which takes its time; `make` does it when it is needed."""
        self._answers()

    def make(self, variant: Variant) -> Made:
        """Raises VerificationError when the graph is further from the reference than allowed."""
        if variant.role is Role.DECODE:
            return self._decoding(variant)
        precision, plain = variant.precision, self._unrolled(variant)
        ranges = self._calibrated(variant) if TABLE[precision].calibrated else None
        model = convert(plain, precision, ranges)
        is_plain = precision is Precision.FP32
        found = None
        if self._examples.has_task or not is_plain:
            found = self._assessed(runnable(plain, precision, ranges), precision)
        if is_plain:
            error, within = verify(model, self._net).difference, TOLERANCE
        else:
            assert found
            error, within = found.typical, TABLE[precision].bound
        entry = GraphEntry(
            precision=precision,
            form=str(variant.form),
            reason=variant.reason,
            nodes=len(model.graph.node),
            verified_within=within,
            from_batch=variant.from_batch,
            runtime=variant.runtime,
            examples=self._figures(found) if found and self._examples.has_task else {},
        )
        return Made(Frozen(variant.file, model, entry), error)

    def _decoding(self, variant: Variant) -> Made:
        """The steps are the very nodes of the graph that gives logits."""
        step = convert(self._unrolled(variant), variant.precision)
        model = decode_caches(step, variant.steps) if variant.steps else decode_windows(step)
        error = verify_decode(model, step, self._net)
        entry = GraphEntry(
            precision=variant.precision,
            form=str(variant.form),
            reason=variant.reason,
            nodes=sum(len(graph.node) for graph in graphs(model.graph)),
            verified_within=DECODE_TOLERANCE,
            from_batch=variant.from_batch,
            role=Role.DECODE,
            steps=variant.steps,
            runtime=variant.runtime,
        )
        return Made(Frozen(variant.file, model, entry), error)

    def _unrolled(self, variant: Variant) -> onnx.ModelProto:
        form = variant.form
        if form not in self._graphs:
            self._graphs[form] = variant.unrolled or unrolled(self._net, form)
        return self._graphs[form]

    def _calibrated(self, variant: Variant) -> Ranges:
        form = variant.form
        if form not in self._ranges:
            self._ranges[form] = calibrate(self._unrolled(variant), self._examples.feeds)
        return self._ranges[form]

    def _assessed(self, model: onnx.ModelProto, precision: Precision) -> Assessment:
        found = assess(model, self._net, self._examples.inputs, self._answers())
        check(found, precision)
        return found

    def _answers(self) -> Answers:
        if self._known is None:
            self._known = answer(self._net, self._examples.inputs, self._examples.targets)
        return self._known

    def _figures(self, found: Assessment) -> dict[str, float]:
        """Rounded, so that another machine's order of summation does not show."""
        spelled = self._examples.bytes_per_token * found.examples
        figures = {
            "top1_percent": round(100 * found.top1, 2),
            "top1_lost_points": round(100 * found.top1_lost, 2),
            "loss_nats": round(found.loss, 4),
            "loss_lost_percent": round(100 * found.loss_lost, 2),
        }
        if spelled:
            figures["bits_per_byte"] = round(found.bits_per_byte(spelled), 4)
        return {"examples": found.examples, **{n: x + 0.0 for n, x in figures.items()}}  # no -0.0


def unrolled(net: Net, form: str) -> onnx.ModelProto:
    """The graph in float32, in a form of the network's family."""
    if isinstance(net, Gpt2Net):
        return unroll_plain_gpt2(net) if form == PLAIN else unroll_gpt2(net)
    return unroll(net, Form(form))
