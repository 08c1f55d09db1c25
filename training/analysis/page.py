"""Net, history and measures -> one HTML page that needs nothing but itself.

page/ holds the template, its style and its scripts; here they are joined, and the data put in as
JSON. The page holds the start of the evolution and what each trial changed; its script folds them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from luminanet.fields import Field, Lags, Patch, TextInput
from luminanet.frozen import FrozenNet
from luminanet.topology import Cluster, Topology
from training.analysis.anatomy import measure, strengths
from training.analysis.history import History
from training.analysis.report import facts, spreads
from training.analysis.similarity import Measure
from training.evolution.evolve import Event
from training.evolution.operators.base import operator
from training.evolution.operators.clusters import Remove

PARTS = files("training.analysis") / "page"
SCRIPTS = ("model.js", "layout.js", "network.js", "panels.js", "history.js", "main.js")


@dataclass(frozen=True, slots=True)
class Story:
    """What a page tells. Without a history, `note` says why; without another network, `other`
    is empty."""

    name: str
    net: FrozenNet
    history: History | None
    note: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    other: str = ""
    similarity: Sequence[Measure] = ()


def build(story: Story) -> str:
    page = _part("page.html")
    page = page.replace("/* STYLE */", _part("page.css"))
    page = page.replace("/* SCRIPT */", "\n".join(map(_part, SCRIPTS)))
    return page.replace("/* DATA */", embedded(data(story)))


def _part(name: str) -> str:
    return (PARTS / name).read_text("utf-8")


def embedded(plain: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment; what is not a
    finite number, which JSON has no word for, becomes null."""
    finite = json.loads(json.dumps(plain), parse_constant=lambda _: None)
    return json.dumps(finite, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def data(story: Story) -> dict[str, Any]:
    topology, anatomy = story.net.topology, measure(story.net)
    history = story.history or History(topology, ())
    steps = [history.start, *(trial.topology for trial in history.trials)]
    return {
        "name": story.name,
        "note": story.note,
        "input": {"text": isinstance(topology.input, TextInput)} | asdict(topology.input),
        "figures": dict(story.figures),
        "facts": [asdict(fact) for fact in facts(anatomy)],
        "spreads": {name: asdict(spread) for name, spread in spreads(anatomy).items()},
        "strengths": [[c.source, c.target, round(s, 6)] for c, s in strengths(story.net).items()],
        "start": _change(None, history.start),
        "trials": [
            {
                "event": trial.event.event,
                "step": trial.event.step,
                "operator": trial.event.operator,
                "words": _words(trial.event),
                "targets": trial.event.targets,
                "before": trial.event.loss_before,
                "after": trial.event.loss_after,
                "tried": trial.event.is_tried,
                "kept": trial.event.kept,
                "depth": trial.topology.depth,
                "parameters": trial.topology.parameters,
                "change": _change(before, trial.topology),
            }
            for before, trial in zip(steps, history.trials, strict=False)
        ],
        "other": story.other,
        "similarity": [asdict(m) for m in story.similarity],
    }


def _words(event: Event) -> str:
    """What was done, and where a selection did it, what was worth how much."""
    words, removes = (
        operator(event.operator).described(event.targets),
        event.operator == Remove.name,
    )
    if not (event.worth and removes):
        return words
    gone = [worth for cluster, worth in event.worth.items() if [int(cluster)] in event.targets]
    left = [worth for cluster, worth in event.worth.items() if [int(cluster)] not in event.targets]
    return f"{words} (worth {_range(gone)}; of those left {_range(left)})"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def _change(before: Topology | None, after: Topology) -> dict[str, Any]:
    """What to do to a drawing of `before`: remove, then put (also what is there), then link."""
    old = set(before.clusters) if before else set()
    links = set(before.connections) if before else set()
    gone = {c.id for c in old} - set(after.by_id)
    return {
        "remove": sorted(gone),
        "put": [_cluster(c) for c in after.clusters if c not in old],
        "disconnect": [[c.source, c.target] for c in sorted(links - set(after.connections))],
        "connect": [[c.source, c.target] for c in after.connections if c not in links],
    }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    drawn = {"id": cluster.id, "level": cluster.level, "width": cluster.width}
    return {**drawn, "fields": [_field(field) for field in cluster.fields]}


def _field(field: Field) -> list[int]:
    """A patch as its frame in the image, its scale and channels, a text field as its first and last
    lag, or its order."""
    if isinstance(field, Patch):
        return [*field.frame, field.pool, *field.channels]
    return [field.lags[0], field.reach] if isinstance(field, Lags) else [field.order]
