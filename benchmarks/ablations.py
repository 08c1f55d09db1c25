"""`python -m benchmarks.ablations --data DIR`: what evolution is worth on CIFAR-10.

Trains the cifar10 preset and its ablations (ABLATIONS), those of --networks with every seed, those
of --once with the first, each for the same --steps (or --seconds). Looks at the
test set once per finished run, and once more with all connections cut. Writes
benchmarks/ablations.md, .json and ablations.png (learning curves with the events of evolution), and
says of every choice and its control whether they end in different networks (end_points.py).
Finished runs are read, interrupted ones resume, as in benchmarks.cifar10.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks import runs
from benchmarks.cifar10 import finish, tested
from benchmarks.end_points import End, Ends, section
from benchmarks.margins import Result
from benchmarks.report import provenance, table
from luminanet.errors import ConfigError
from luminanet.frozen import FrozenNet
from luminanet.topology import Kind, Topology
from training.checkpoint import load
from training.config import EvolutionConfig, ImageConfig
from training.data.datasets import Images, load_images, resolve
from training.model.network import Network
from training.presets import IMAGE_PRESETS
from training.run.run import CHECKPOINT, STATE
from training.torch_files import read_torch
from training.train import command_of

BASE = IMAGE_PRESETS["cifar10"]
assert BASE.evolution is not None
LEAN = replace(BASE.evolution, events=40, stop=0.6)
SPARSE = replace(BASE.evolution, max_connections=64)


def _evolving(name: str, evolution: EvolutionConfig | None, **changes: Any) -> ImageConfig:
    return BASE.having(preset=name, evolution=evolution, **changes)


ABLATIONS = {
    config.preset: config
    for config in (
        _evolving("cifar10-random", replace(BASE.evolution, policy="random")),
        _evolving("cifar10-hebbian", replace(BASE.evolution, policy="hebbian")),
        _evolving("cifar10-unconnected", replace(BASE.evolution, connections=0)),
        _evolving("cifar10-pass1", replace(BASE.evolution, kinds=(Kind.FEEDFORWARD,))),
        _evolving("cifar10-dense", None, seeding="dense", width=148),
        _evolving("cifar10-scales-dense", None, seeding="scales-dense", width=148),
        _evolving("cifar10-scales", BASE.evolution, seeding="scales"),
        _evolving("cifar10-sparse", SPARSE),
        _evolving("cifar10-sparse-random", replace(SPARSE, policy="random")),
        _evolving("cifar10-lean", LEAN),
        _evolving("cifar10-lean-random", replace(LEAN, policy="random")),
        BASE.having(preset="cifar10-unwhitened", whiten=0.0),
        *(BASE.having(preset=f"cifar10-channel{n}", channel=n) for n in (10, 32, 84, 128)),
    )
}
"""What the cifar10 preset is measured against: other policies (changes ranked by chance, or by what
fires together), less to work with (no connections, feedforward ones only, at most 64, messages of
other sizes, pixels as they are), no evolution (dense from the start); "lean" goes on after building
and removes what is not missed; "scales" sees an image pyramid instead of a grid of windows."""
NETWORKS = (
    *("cifar10", "cifar10-random", "cifar10-dense", "cifar10-scales-dense", "cifar10-unconnected"),
    *("cifar10-lean", "cifar10-lean-random", "cifar10-sparse", "cifar10-sparse-random"),
)
ONCE = tuple(name for name in ABLATIONS if name not in NETWORKS)
COMPARED = (
    *(("cifar10", f"cifar10-{other}") for other in ("random", "hebbian", "dense", "unconnected")),
    *((f"cifar10-{name}", f"cifar10-{name}-random") for name in ("sparse", "lean")),
    ("cifar10-scales", "cifar10-scales-dense"),
    ("cifar10-scales-dense", "cifar10-dense"),
)
"""Whose end points are compared: a choice and its control."""
STEPS = 1000
CHECKS = 20
"""Points of a learning curve."""
NOTES = """Same number of steps (or time) for every row, mean ± standard deviation over the seeds.
"Cut" is the same network with all connections removed, without retraining (the paper's Table 5).
Kinds are feedforward / feedback / recurrent.
"""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One finished run: its figures, those without connections, and its learning curve."""

    result: Result
    cut_top1: float
    clusters: int
    kinds: tuple[int, ...]
    checks: list[tuple[int, float]]
    """(step, held-out loss)"""
    events: list[int]
    """Steps at which something was kept."""
    topology: str
    """Where it ended, as Topology.to_json writes it."""


def run(
    config: ImageConfig, out: Path, folder: Path | None, test: Images, command: str
) -> Ablation:
    device = torch.device("cpu")
    result = finish(config, out, folder, device, BASE, command)
    net = load(out / CHECKPOINT).net
    assert isinstance(net, FrozenNet)
    without = tested(Network(cut(net)), test, device)
    state = read_torch(out / STATE)
    history = json.loads(state["history"])
    return Ablation(
        result=result,
        cut_top1=without.first / without.count,
        clusters=len(net.topology.clusters),
        kinds=tuple(net.topology.count(kind) for kind in Kind),
        checks=[(step, loss) for step, loss in state["checks"]],
        events=sorted({event["step"] for event in history if event["kept"]}),
        topology=net.topology.to_json(),
    )


def cut(net: FrozenNet) -> FrozenNet:
    """The same clusters without any connection."""
    return replace(net, topology=net.topology.having(net.topology.clusters, ()), gates={})


# ---------------------------------------------------------------------- report


def markdown(found: Sequence[Ablation]) -> str:
    by_network: dict[str, list[Ablation]] = {}
    for ablation in found:
        by_network.setdefault(ablation.result.network, []).append(ablation)
    header = [
        *("preset", "seeds", "top-1", "top-5", "top-1, connections cut", "parameters", "MACs"),
        *("clusters", "kinds", "epochs"),
    ]
    return table(header, [_row(name, own) for name, own in by_network.items()])


def ends(found: Sequence[Ablation]) -> Ends:
    """Top-1 in points."""
    by_preset: dict[str, dict[int, End]] = {}
    for a in found:
        end = End(Topology.from_json(a.topology), 100 * a.result.top1)
        by_preset.setdefault(a.result.network, {})[a.result.seed] = end
    return by_preset


def _row(name: str, own: Sequence[Ablation]) -> list[str]:
    return [
        name,
        str(len(own)),
        spread([a.result.top1 for a in own]),
        spread([a.result.top5 for a in own]),
        spread([a.cut_top1 for a in own]),
        f"{mean(a.result.parameters for a in own) / 1e6:.2f} M",
        f"{mean(a.result.macs for a in own) / 1e6:.2f} M",
        f"{mean(a.clusters for a in own):.0f}",
        " / ".join(f"{mean(counts):.0f}" for counts in zip(*(a.kinds for a in own), strict=True)),
        f"{mean(a.result.epochs for a in own):.0f}",
    ]


def spread(shares: Sequence[float]) -> str:
    deviation = f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):.1f}{deviation} %"


def draw(found: Sequence[Ablation], path: Path) -> None:
    """Held-out loss over steps, first seed of each network; dots where evolution kept a change."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    first = min(a.result.seed for a in found)
    for ablation in (a for a in found if a.result.seed == first and a.checks):
        steps, losses = zip(*ablation.checks, strict=True)
        (line,) = axes.plot(steps, losses, label=ablation.result.network, linewidth=1.2)
        kept = [step for step in ablation.events if steps[0] <= step <= steps[-1]]
        heights = [_between(step, ablation.checks) for step in kept]
        axes.scatter(kept, heights, s=8, color=line.get_color())
    axes.set(xlabel="step", ylabel="held-out loss (averaged weights)", yscale="log")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _between(step: int, checks: Sequence[tuple[int, float]]) -> float:
    """The curve's height at a step, on the line between two checks."""
    after = next(k for k, (at, _) in enumerate(checks) if at >= step)
    (x0, y0), (x1, y1) = checks[max(0, after - 1)], checks[after]
    return y1 if x1 == x0 else y0 + (y1 - y0) * (step - x0) / (x1 - x0)


def write(found: Sequence[Ablation], folder: Path, source: str) -> str:
    shown = markdown(found)
    title = "# What evolution is worth on CIFAR-10\n\n"
    body = {"source": source.strip(), "runs": [asdict(ablation) for ablation in found]}
    folder.mkdir(parents=True, exist_ok=True)
    picture = "\n![learning curves](ablations.png)\n"
    compared = section(ends(found), COMPARED, "top-1 in points", digits=1)
    text = f"{title}{shown}\n{NOTES}{picture}{compared}\n{source}"
    (folder / "ablations.md").write_text(text, "utf-8")
    (folder / "ablations.json").write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    draw(found, folder / "ablations.png")
    return shown


# ---------------------------------------------------------------------- command line


def names(listed: str) -> list[str]:
    """Presets of an option. Raises ConfigError when there is no such ablation."""
    found = [name for name in listed.split(",") if name]
    for name in found:
        if name not in ("cifar10", *ABLATIONS):
            raise ConfigError(f"{name!r} is none of cifar10, {', '.join(ABLATIONS)}")
    return found


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    options = runs.parser("ablations", __doc__, seeds="0,1,2")
    options.add_argument("--networks", default=",".join(NETWORKS), help="presets, with commas")
    options.add_argument("--once", default=",".join(ONCE), help="presets for the first seed only")
    options.set_defaults(steps=STEPS, threads=1)
    arguments = options.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    command = command_of(argv, "benchmarks.ablations")
    source = provenance(command, ("torch", "numpy"), arguments.seeds)

    def work() -> str:
        folder = resolve(arguments.data)
        test, done, shown = load_images(folder, "test"), list[Ablation](), ""
        seeds = runs.seeds_of(arguments)
        wanted = [(name, seed) for seed in seeds for name in names(arguments.networks)]
        wanted += [(name, seeds[0]) for name in names(arguments.once)]
        for name, seed in wanted:
            plain = ABLATIONS.get(name, BASE)
            config = runs.budgeted(replace(plain, seed=seed), arguments)
            config = replace(config, check_every=max(1, arguments.steps // CHECKS))
            out = arguments.out / f"{name}-seed{seed}"
            done.append(run(config, out, folder, test, command))
            shown = write(done, arguments.report, source)
        return shown

    return runs.finished(work)


if __name__ == "__main__":
    sys.exit(main())
