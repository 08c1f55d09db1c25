"""`python -m benchmarks.scale`: traffic -> replicas, memory and cost, by measured figures.

Reads the newest benchmarks/load/*/figures.json: what one server did at the highest rate at which it
kept its objective. With --write the table of docs/scale.md is made anew, from ten requests a second
to ten million. Prices are the reader's (--core-hour, --gib-hour): none is assumed.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import yaml

from benchmarks.load.figures import kept
from benchmarks.report import replace_marked, table
from loadtest.workload import MAX_TOKENS
from luminanet.artifact.manifest import Family
from luminanet.errors import ConfigError, DataError, LuminaNetError

ROOT = Path(__file__).parent.parent
LOADS = ROOT / "benchmarks" / "load"
PAGE = ROOT / "docs" / "scale.md"
SCALED = ROOT / "deploy" / "kubernetes" / "components" / "scaling" / "scaled-object.yaml"
RATES = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CLUSTER_PODS = 150_000
"""In one cluster, at most: kubernetes.io/docs/setup/best-practices/cluster-large/."""
GIB = 2**30
MODELS = [family.value for family in Family]


@dataclass(frozen=True, slots=True)
class Replica:
    """What one server was seen to do, at the highest rate at which it kept its objective."""

    model: str
    tokens_per_second: float
    in_flight: float
    """Sequences in it at once (Little's law, with the p90 of the time of a request)."""
    cores: int
    busy_cores: float
    peak_bytes: int
    is_limit: bool
    """False where no higher rate was tried: it may do more."""
    provenance: str

    @property
    def core_seconds(self) -> float:
        """That 1,000 tokens took of a core."""
        return 1000 * self.busy_cores / self.tokens_per_second


@dataclass(frozen=True, slots=True)
class Traffic:
    requests_per_second: float
    tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.requests_per_second < float("inf") or self.tokens < 1:
            raise ConfigError("--requests-per-second and --tokens must be above 0 and finite")


@dataclass(frozen=True, slots=True)
class Plan:
    needed: int
    """Replicas that carry the traffic."""
    replicas: int
    """With those that carry it when a zone is lost."""
    cores: int
    memory_bytes: int


def measured(figures: Path, model: str) -> Replica:
    """Raises DataError when the file is none, or has no rate that this model kept."""
    try:
        found = json.loads(figures.read_text("utf-8"))
        cells = {cell["rate"]: cell for cell in found["cells"] if cell["model"] == model}
        rates = kept({rate: cell["within"] for rate, cell in cells.items()})
        cores = re.search(r" on (\d+) cores ", found["provenance"])
        if not rates or not cores:
            raise DataError(f"{figures} has no rate that {model} kept: measure one that it can")
        best = cells[rates[-1]]
        return Replica(
            model,
            best["tokens_per_second"],
            best["rate"] * best["seconds"]["end to end"][1],
            int(cores[1]),
            best["server_cores"],
            max(cell["server_peak_bytes"] for cell in cells.values()),
            len(rates) < len(cells),
            found["provenance"],
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{figures}: {error!r}: make it with python -m benchmarks.load pretrained"
        ) from error


def newest(loads: Path = LOADS) -> Path:
    """The newest figures. Raises DataError when there are none."""
    found = sorted(loads.glob("*/figures.json"))
    if not found:
        raise DataError(f"no figures below {loads}: python -m benchmarks.load pretrained")
    return found[-1]


def plan(traffic: Traffic, replica: Replica, zones: int) -> Plan:
    """Replicas spread over zones, of which any one may be lost; with one zone nothing is spare.

    A short answer counts as one of the measurement: what it takes beside tokens is not known.
    """
    tokens = traffic.requests_per_second * max(traffic.tokens, MAX_TOKENS)
    needed = ceil(tokens / replica.tokens_per_second)
    replicas = needed if zones == 1 else zones * ceil(needed / (zones - 1))
    return Plan(needed, replicas, replicas * replica.cores, replicas * replica.peak_bytes)


def breaks_first(found: Plan, max_replicas: int) -> str:
    if found.needed == 1:
        return "availability, not load: one container is an outage when it is replaced"
    if found.replicas <= max_replicas:
        return "bursts: the queue is full (429) before a new replica has started"
    if found.replicas <= CLUSTER_PODS:
        return "`maxReplicaCount`, then even spread: a Service balances connections, not requests"
    return f"the cluster ({CLUSTER_PODS:,} pods): several, each whole, behind DNS or anycast"


def report(
    traffics: Sequence[Traffic], replica: Replica, zones: int, prices: tuple[float, float] | None
) -> str:
    """The table; `prices` are those of a core and of a GiB, for an hour."""
    max_replicas = yaml.safe_load(SCALED.read_text("utf-8"))["spec"]["maxReplicaCount"]
    header = ["requests/s", "tokens each", "needed", "replicas", "cores", "memory GiB"]
    rows = []
    for traffic in traffics:
        found = plan(traffic, replica, zones)
        gib = found.memory_bytes / GIB
        row = [
            f"{traffic.requests_per_second:,.10g}",
            str(traffic.tokens),
            f"{found.needed:,}",
            f"{found.replicas:,}",
            f"{found.cores:,}",
            f"{gib:,.1f}",
        ]
        if prices:
            row.append(f"{found.cores * prices[0] + gib * prices[1]:,.2f}")
        rows.append([*row, breaks_first(found, max_replicas)])
    return table([*header, *(["an hour"] if prices else []), "what breaks first"], rows)


def basis(replicas: Sequence[Replica], zones: int) -> str:
    """What the table stands on."""
    rows = [
        [
            one.model,
            f"{'' if one.is_limit else 'at least '}{one.tokens_per_second:,.0f}",
            f"{one.in_flight:.1f}",
            f"{one.busy_cores:.2f} of {one.cores}",
            f"{one.core_seconds:.3f}",
            f"{one.peak_bytes / 2**20:.0f} MiB",
        ]
        for one in replicas
    ]
    header = ["model", "tokens/s", "sequences at once", "busy cores", "core s per 1,000 tokens"]
    return (
        f"{table([*header, 'server peak'], rows)}\n"
        "One server, with both text models and the image model. "
        f"{f'Of {zones} zones one may be lost' if zones > 1 else 'Nothing may be lost'}.\n"
        f"Figures: {replicas[0].provenance}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--requests-per-second", type=float, help="default: a table of rates")
    parser.add_argument("--tokens", type=int, default=MAX_TOKENS, help="of an answer")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--zones", type=int, default=3, help="one of which may be lost; 1: none")
    parser.add_argument("--core-hour", type=float, help="your price of a core for an hour")
    parser.add_argument("--gib-hour", type=float, default=0.0, help="your price of a GiB")
    parser.add_argument("--write", action="store_true", help="the table in docs/scale.md")
    given = parser.parse_args(argv)
    try:
        if given.zones < 1:
            raise ConfigError("--zones must be at least 1")
        rates = [given.requests_per_second] if given.requests_per_second is not None else RATES
        traffics = [Traffic(rate, given.tokens) for rate in rates]
        figures = newest()
        prices = None if given.core_hour is None else (given.core_hour, given.gib_hour)
        replicas = {model: measured(figures, model) for model in MODELS}
        planned = report(traffics, replicas[given.model], given.zones, prices)
        text = f"{planned}\n{basis([*replicas.values()], given.zones)}"
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    if given.write:
        replace_marked(PAGE, "scale", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
