"""`python -m benchmarks.latency`: what evolution pays for a step, measured on this machine.

Times the graphs of random text networks (levels on a bus, scattered connections, none) in the
forms of graph_work.py with onnxruntime, one thread; explains the times by what the graphs make
the runtime do; and says how far off the predictions for other networks are. The first network is
timed again beside every other one, so that moments in which the machine is slow cancel out. Writes
luminanet/cost/latency.json, the model that training uses, and benchmarks/latency.md.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import provenance, table
from export.checks.timing import example, interleaved, onnxruntime_call
from export.network.lowerings import Form
from export.network.unroll import unroll
from luminanet.cost.graph_work import FORMS, work
from luminanet.cost.latency import predict_us
from luminanet.cost.model import LATENCY_MODEL, Coefficients, Model, Work, write
from luminanet.errors import LuminaNetError
from luminanet.fields import Interval, Recall, TextField, TextInput
from luminanet.topology import Activation, Cluster, Connection, Topology
from training.model.initial import initial_net

PAGE = Path(__file__).parent / "latency.md"
BATCHES = (1, 32)
SWEEPS = 3
FIRST = "first"
OTHERS = 3
"""One network of so many is not fitted: on these the model is judged."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A network and the microseconds of its graphs, by batch size and form."""

    topology: Topology
    us: Mapping[int, Mapping[str, float]]


def random_text(seed: int) -> Topology:
    """Sizes as of text networks that are trained, connections of one of three kinds; every second
    one recalls and echoes, and in every fourth the clusters of a level see the same."""
    rng = np.random.default_rng(seed)
    embedding, window = int(rng.choice([64, 128, 192])), int(rng.choice([64, 128, 256]))
    count, levels = int(rng.integers(4, 17)), int(rng.integers(1, 4))
    narrow, wide = sorted(rng.choice([64, 96, 128, 160, 192], 2).tolist())
    shape = TextInput(int(rng.choice([1024, 2048, 4096])), embedding, window)
    recalls: tuple[Recall, ...] = ()
    if seed % 2:
        recalls = (Recall(1), Recall(2))[: int(rng.integers(1, 3))]
        reach, habits = int(rng.choice([32, window])), int(rng.choice([0, 16_381]))
        echoes: list[TextField] = [Interval(0, 16), Interval(0, reach), *recalls]
        shape = replace(shape, tied=False, echoes=tuple(echoes), habits=habits)
    together = [_fields(rng, window, recalls) for _ in range(levels)]
    clusters = tuple(
        Cluster(
            id=k,
            level=k * levels // count,
            width=int(rng.choice([narrow, wide])),
            fields=together[k * levels // count]
            if seed % 4 == 3
            else _fields(rng, window, recalls),
        )
        for k in range(count)
    )
    places = [Connection(source=s.id, target=t.id) for s, t in product(clusters, clusters)]
    on_level = {cluster.id: cluster.level for cluster in clusters}
    kind = seed % 3
    if kind == 0:
        pairs = {(int(a), int(b)) for a, b in rng.integers(0, levels, (3, 2))}
        links = [c for c in places if (on_level[c.source], on_level[c.target]) in pairs]
    else:
        some = rng.permutation(len(places))[: int(rng.integers(1, 5 * count)) * (kind - 1)]
        links = [places[k] for k in some.tolist()]
    return Topology(
        input=shape,
        channel=int(rng.choice([48, 64, 128, 256])),
        outputs=embedding if shape.tied else int(rng.choice([128, 192, 256])),
        activation=Activation.GELU,
        clusters=clusters,
        connections=tuple(links),
    )


def _fields(
    rng: np.random.Generator, window: int, recalls: tuple[Recall, ...]
) -> tuple[TextField, ...]:
    """The last token, single lags and doubling intervals, and for every second cluster recalls."""
    singles = [Interval(lag, lag + 1) for lag in range(1, 8)]
    pooled = [Interval(1 << k, 2 << k) for k in range(1, window.bit_length() - 1)]
    offered = [*singles, *pooled, Interval(0, window)]
    chosen = rng.permutation(len(offered))[: int(rng.integers(0, 4))].tolist()
    seen = recalls if rng.random() < 0.5 else ()
    return (*sorted([Interval(0, 1), *(offered[k] for k in chosen)]), *seen)


def measure(topologies: Sequence[Topology], sweeps: int = SWEEPS) -> list[Timed]:
    """Medians over sweeps through all networks, as in the machine's usual moment."""
    found = [sweep(topologies) for _ in range(sweeps)]
    return [
        Timed(
            topology,
            {
                batch: {
                    form: 1e6 * float(np.median([one[number][batch][form] for one in found]))
                    for form in FORMS
                }
                for batch in BATCHES
            },
        )
        for number, topology in enumerate(topologies)
    ]


def sweep(topologies: Sequence[Topology]) -> list[dict[int, dict[str, float]]]:
    """Seconds by batch size and form, a network each."""
    nets = [initial_net(topology, number) for number, topology in enumerate(topologies)]
    first = onnxruntime_call(unroll(nets[0], Form(FORMS[0])))
    found: list[dict[int, dict[str, float]]] = []
    for net in nets:
        calls = {form: onnxruntime_call(unroll(net, Form(form))) for form in FORMS}
        found.append({})
        for batch in BATCHES:
            inputs = example(net, batch)
            turns: dict[str, Callable[[], object]] = {
                form: partial(call, inputs) for form, call in calls.items()
            }
            turns[FIRST] = partial(first, example(nets[0], batch))
            found[-1][batch] = interleaved(turns)
    for batch in BATCHES:
        usual = float(np.median([one[batch][FIRST] for one in found]))
        for one in found:
            slow = one[batch].pop(FIRST) / usual
            one[batch] = {form: seconds / slow for form, seconds in one[batch].items()}
    return found


def fit(timed: Sequence[Timed]) -> Model:
    """Coefficients per batch size that explain the times best."""
    works = [work(t.topology) for t in timed]
    model = {}
    for batch in BATCHES:
        found = zip(works, timed, strict=True)
        both = [(done[form], t.us[batch][form]) for done, t in found for form in FORMS]
        model[batch] = explain([done for done, _ in both], [us for _, us in both])
    return model


def explain(works: Sequence[Work], times_us: Sequence[float]) -> Coefficients:
    """Least squares of relative errors, without negative coefficients."""
    rows = np.array([done.counts for done in works]) / (np.array(times_us)[:, None] * 1000)
    found = nonnegative(rows, np.ones(len(rows)))
    return Coefficients(*(round(float(x), 3) for x in found))


def nonnegative(rows_NK: NDArray[np.float64], wanted_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """x >= 0 that minimises |rows x - wanted|: the best subset of columns, which are few."""
    best, least = np.zeros(rows_NK.shape[1]), float(wanted_N @ wanted_N)
    for mask in product((False, True), repeat=rows_NK.shape[1]):
        columns = np.flatnonzero(mask)
        if not len(columns):
            continue
        found, *_ = np.linalg.lstsq(rows_NK[:, columns], wanted_N, rcond=None)
        error = float(((rows_NK[:, columns] @ found - wanted_N) ** 2).sum())
        if found.min() >= 0 and error < least:
            best, least = np.zeros(rows_NK.shape[1]), error
            best[columns] = found
    return best


def errors(model: Model, timed: Sequence[Timed]) -> dict[int, list[float]]:
    """Batch size -> predicted / measured - 1 of the best form, a network each."""
    return {
        batch: [predict_us(t.topology, model)[batch] / min(t.us[batch].values()) - 1 for t in timed]
        for batch in BATCHES
    }


def order(model: Model, timed: Sequence[Timed], batch: int) -> float:
    """Of all pairs of networks, the share of which the model says rightly which one is faster."""
    said = [predict_us(t.topology, model)[batch] for t in timed]
    true = [min(t.us[batch].values()) for t in timed]
    pairs = [(i, j) for i in range(len(timed)) for j in range(i)]
    return float(np.mean([(said[i] < said[j]) == (true[i] < true[j]) for i, j in pairs]))


def report(model: Model, timed: Sequence[Timed]) -> str:
    fitted, others = split(timed)
    rows = []
    for batch in BATCHES:
        for name, part in (("fitted", fitted), ("others", others)):
            off = np.abs(errors(model, part)[batch])
            us = [min(t.us[batch].values()) for t in part]
            rows.append(
                [
                    *(str(batch), name, str(len(part)), f"{min(us):.0f} to {max(us):.0f}"),
                    *(f"{np.median(off):.1%}", f"{np.quantile(off, 0.9):.1%}", f"{off.max():.1%}"),
                    f"{order(model, part, batch):.1%}",
                ]
            )
    names = ["batch", "networks", "count", "us", "median error", "90 % below", "largest"]
    return table([*names, "pairs ordered rightly"], rows)


def split(timed: Sequence[Timed]) -> tuple[list[Timed], list[Timed]]:
    """What is fitted, and the others; every kind of connections is in both."""
    fitted = [t for k, t in enumerate(timed) if k // 3 % OTHERS]
    return fitted, [t for k, t in enumerate(timed) if not k // 3 % OTHERS]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--networks", type=int, default=54, help="random networks (default 54)")
    parser.add_argument("--sweeps", type=int, default=SWEEPS, help=f"default {SWEEPS}")
    parser.add_argument("--json", type=Path, default=LATENCY_MODEL, help="where the model goes")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the report goes")
    arguments = parser.parse_args(argv)
    try:
        networks = [random_text(seed) for seed in range(max(arguments.networks, 2 * OTHERS))]
        timed = measure(networks, max(arguments.sweeps, 1))
        model = fit(split(timed)[0])
        arguments.json.write_text(write(model), "utf-8")
        page = report(model, timed)
        print(page)
        title = "# Predicted latency against measured\n\n"
        note = provenance("python -m benchmarks.latency", ("onnxruntime", "numpy"), "0")
        arguments.page.write_text(f"{title}{page}\n{note}", "utf-8")
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
