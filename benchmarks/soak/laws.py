"""What clients sent and saw, against what the server counted: every key lies between what must have
been counted and what may have been, and these differ by those only who left."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.clients import Seen
from benchmarks.soak.mix import Leave

Key = tuple[str, ...]
Counts = Mapping[Key, int]
PICTURE, TASK = "picture", "image-classification"
WATCHED = ("/metrics", "/health/live", "/health/ready")
"""Routes that the measurement itself asks."""
ENDINGS = {PICTURE: ("done", "error", "cancelled")}
TEXT_ENDINGS = ("stop", "length", "cancelled")
GONE = "499"


@dataclass(frozen=True, slots=True)
class Law:
    """`what` was counted `found` times; it must be `low` to `high`."""

    what: str
    low: int
    found: int
    high: int

    @property
    def holds(self) -> bool:
        return self.low <= self.found <= self.high


def counts(metrics: str) -> Counter[Key]:
    """The counters of a page of metrics that laws are about, and who runs and waits."""
    found: Counter[Key] = Counter()
    for family in text_string_to_metric_families(metrics):
        for name, labels, value, *_ in family.samples:
            computes = PICTURE if labels.get("task") == TASK else labels.get("model", "")
            match name:
                case "luminanet_requests_total" if labels["route"] not in WATCHED:
                    found["answers", labels["route"]] += int(value)
                    found["answers", labels["route"], labels["code"]] += int(value)
                case "luminanet_requests_finished_total":
                    found["finished", computes] += int(value)
                    found["finished", computes, labels["finish_reason"]] += int(value)
                case "luminanet_requests_rejected_total":
                    found["rejected", computes, labels["reason"]] += int(value)
                case "luminanet_requests_running" | "luminanet_requests_waiting":
                    found[name.removeprefix("luminanet_requests_"), computes] += int(value)
    return found


def contributions(seen: Seen) -> Iterator[tuple[Key, bool]]:
    """What this request adds to, and whether it must or may."""
    request = seen.request
    answers: Key = ("answers", request.route)
    finished: Key = ("finished", request.model)
    if not request.route or seen.leaves is Leave.HEAD:
        return
    if not seen.leaves:
        yield answers, True
        yield (*answers, str(request.status)), True
        if request.model:
            yield finished, True
            yield (*finished, seen.ending), True
        return
    read = not seen.place and (bool(seen.status) or not seen.resets)
    yield answers, read
    yield (*answers, GONE), seen.leaves is Leave.BODY and read
    if seen.leaves is Leave.BODY:
        return
    yield (*answers, "200"), False
    if request.model:
        yield finished, seen.status == 200
        for ending in ENDINGS.get(request.model, TEXT_ENDINGS):
            yield (*finished, ending), False


def laws(every: Sequence[Seen], before: Counts, after: Counts) -> list[Law]:
    """One for each key that clients can have touched or the server did."""
    low: Counter[Key] = Counter()
    high: Counter[Key] = Counter()
    for seen in every:
        for key, certain in contributions(seen):
            high[key] += 1
            low[key] += certain
    change = Counter({key: after[key] - before.get(key, 0) for key in after})
    touched = {key for key in change if change[key]} | set(high)
    return [Law(" ".join(key), low[key], change[key], high[key]) for key in sorted(touched)]
