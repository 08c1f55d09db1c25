"""Which form a network is unrolled to, and why.

    auto      the cost model below: the same choice on every machine, so the same bytes. The fastest
              form for single requests and, where another is worth a file, the one for batches
    measure   a few hundred timed calls on this machine: the one form that is least far from the
              best one at any batch size

The coefficients of the cost model are those of luminanet/cost/forms.json.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from math import ceil

import onnx

from export.checks.timing import example, interleaved, onnxruntime_call
from export.graph.count import work_of
from export.network.lowerings import Form
from export.network.unroll import unroll
from luminanet.cost import macs as cost
from luminanet.cost.model import FORMS_MODEL, shipped
from luminanet.errors import ExportError
from luminanet.frozen import FrozenNet

AUTO, MEASURE = "auto", "measure"
NAMES = (AUTO, MEASURE, *Form)
COSTS = shipped(FORMS_MODEL)
"""Batch size -> what a node and a product cost, measured by `python -m benchmarks.costs`."""
BATCHES = tuple(COSTS)
GAIN = 1.05
"""How much faster a second form must be at batch 64 to be worth a file."""
MOST_ZEROS = 4
"""Blocks are not tried when the square of all neurons is more than this times the products."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A form, and one sentence that says why."""

    form: Form
    reason: str
    graph: onnx.ModelProto | None = field(default=None, repr=False, compare=False)
    """The network in this form, if it had to be unrolled to choose."""


def choose(net: FrozenNet, name: str = AUTO) -> dict[int, Choice]:
    """What `name`, one of NAMES, asks for: the smallest batch that a form is for -> the form. AUTO
    gives two where that is worth it, one for single requests and one for batches.

    Raises ExportError for another name, or for a network that fits no graph.
    """
    if name == AUTO:
        return _predict(net)
    if name == MEASURE:
        return {1: _measure(net)}
    if name not in NAMES:
        raise ExportError(f"there is no form {name!r}: choose one of {', '.join(NAMES)}")
    return {1: Choice(Form(name), "asked for by name")}


def _predict(net: FrozenNet) -> dict[int, Choice]:
    """Holds three graphs at most: those that may yet be chosen, and one that is weighed."""
    times_us: dict[Form, dict[int, float]] = {}
    built: dict[Form, onnx.ModelProto] = {}
    for form, model in graphs(net):
        work = work_of(model)
        times_us[form] = {batch: costs.us(work) for batch, costs in COSTS.items()}
        built[form] = model
        kept = {choice.form for choice in _fastest(times_us)}
        built = {form: model for form, model in built.items() if form in kept}
    found = by_batch(times_us)
    return {least: replace(choice, graph=built.get(choice.form)) for least, choice in found.items()}


def by_batch(times_us: Mapping[Form, Mapping[int, float]]) -> dict[int, Choice]:
    """Form -> batch size -> predicted microseconds, to the forms for single requests and, if it
    gains enough, for batches."""
    smallest, largest = min(COSTS), max(COSTS)
    few, many = _fastest(times_us)
    plain, other = times_us[few.form], times_us[many.form]
    if plain[largest] < GAIN * other[largest]:
        return {smallest: few}
    return {smallest: few, _takes_over(plain, other): many}


def _fastest(times_us: Mapping[Form, Mapping[int, float]]) -> list[Choice]:
    """For the smallest batch size that is known, and for the largest."""
    return [
        best({form: {size: us[size]} for form, us in times_us.items()}, "predicted")
        for size in (min(COSTS), max(COSTS))
    ]


def _takes_over(plain: Mapping[int, float], other: Mapping[int, float]) -> int:
    """The batch from which on `other`, slower at first and faster in the end, is the faster one, if
    times grow linearly between the batch sizes that are known."""
    low, high = max(pair for pair in pairwise(sorted(plain)) if plain[pair[0]] <= other[pair[0]])
    behind, ahead = other[low] - plain[low], plain[high] - other[high]
    return max(2, ceil(low + (high - low) * behind / (behind + ahead)))


def _measure(net: FrozenNet) -> Choice:
    models = dict(graphs(net))
    calls = {form: onnxruntime_call(model) for form, model in models.items()}
    times_us: dict[Form, dict[int, float]] = {form: {} for form in calls}
    for batch in BATCHES:
        inputs = example(net, batch)
        found = interleaved({form: partial(call, inputs) for form, call in calls.items()})
        for form, seconds in found.items():
            times_us[form][batch] = 1e6 * seconds
    chosen = best(times_us, "measured")
    return replace(chosen, graph=models[chosen.form])


def best(times_us: Mapping[Form, Mapping[int, float]], how: str) -> Choice:
    """The form whose worst ratio to the fastest one, over all batch sizes, is smallest."""
    worst = {form: worst_ratio(times, times_us.values()) for form, times in times_us.items()}
    ranked = sorted(worst, key=lambda form: (worst[form], form))

    def told(form: Form) -> str:
        times = (f"{us:.0f} us at batch {batch}" for batch, us in times_us[form].items())
        return f"{form} {', '.join(times)}"

    return Choice(ranked[0], f"{how}: {'; '.join(told(form) for form in ranked[:3])}")


def worst_ratio(times: Mapping[int, float], all_times: Iterable[Mapping[int, float]]) -> float:
    """How much slower than the fastest, at the batch size where that is most."""
    others = list(all_times)
    return max(time / min(other[batch] for other in others) for batch, time in times.items())


def graphs(net: FrozenNet) -> Iterator[tuple[Form, onnx.ModelProto]]:
    """All forms but blocks that would be mostly zeros, and what no ONNX file can hold.

    Raises ExportError when none is left.
    """
    refused: list[ExportError] = []
    width = sum(cluster.width for cluster in net.topology.clusters)
    is_sparse = width**2 > MOST_ZEROS * cost.macs(net.topology)
    forms = [form for form in Form if not (form is Form.BLOCK and is_sparse)]
    for form in forms:
        try:
            yield form, unroll(net, form)
        except ExportError as error:
            refused.append(error)
    if len(refused) == len(forms):
        raise refused[0]
