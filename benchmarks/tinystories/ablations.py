"""What a text network's parts are worth: `python -m benchmarks.tinystories.ablations`.

Trains presets from nothing with every seed, for the same --steps and without a teacher, and reads
held-out stories with each network as it is and with parts of it silenced, without retraining:

    connections    all of them cut (the paper's Table 5)
    recalls        nothing is recalled, neither to be seen nor to be echoed
    echoes         nothing is echoed
    habits         nothing is known by heart of what follows two tokens

Those with a bus in their names (DENSE) are connected from the start and do not evolve. Says also
how alike two evolved networks of one preset are, and whether two presets end in different networks
(benchmarks/end_points.py). Writes benchmarks/tinystories/ablations.md and .json. Finished runs are
read, interrupted ones resume.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

from benchmarks import runs
from benchmarks.ablations import cut
from benchmarks.end_points import End, Ends, section
from benchmarks.report import provenance, table
from benchmarks.text.models import TextModel, open_model
from benchmarks.text.quality import evaluate
from benchmarks.text.streams import HELD_OUT, Streams
from luminanet.cost.macs import macs
from luminanet.errors import ConfigError
from luminanet.fields import Recall, TextInput
from luminanet.frozen import ClusterWeights, FrozenNet, TextHead
from luminanet.topology import Cluster, Kind
from training.analysis.similarity import compare
from training.config import TextConfig, TextLuminaNet
from training.data.datasets import resolve
from training.presets import TEXT_PRESETS
from training.run.run import Run
from training.run.task import prepare
from training.train import command_of

HERE = Path(__file__).parent
DENSE = {
    config.preset: config
    for config in (
        TEXT_PRESETS["tinystories"].having(preset="tinystories-bus", seeding="bus", evolution=None),
        TEXT_PRESETS["tinystories"].having(
            **{"preset": "tinystories-bus-wide", "seeding": "bus", "evolution": None},
            **{"learning_rate": 5e-3, "width": 200},
        ),
        TEXT_PRESETS["tinystories-echo"].having(
            preset="tinystories-echo-bus", seeding="echo-bus", width=96, evolution=None
        ),
    )
}
"""Levels are connected from the start, and nothing evolves; the wide one costs as much as
tinystories-echo."""
NETWORKS = ("tinystories-echo", "tinystories-echo-bus", "tinystories-bus-wide", "tinystories-bus")
COMPARED = (
    ("tinystories-echo", "tinystories-echo-bus"),
    ("tinystories-bus-wide", "tinystories-bus"),
)
"""Whose end points are compared: evolved or by hand, wide or narrow."""
STEPS = 450
TOKENS = 20_000
"""Held-out tokens that every network reads."""
RESULT = "ablations.json"
WHOLE = "as trained"


@dataclass(frozen=True, slots=True)
class Ablation:
    """One run: perplexity of held-out stories with a full context, by what was silenced."""

    preset: str
    seed: int
    perplexity: Mapping[str, float]
    macs: int
    parameters: int
    kinds: tuple[int, ...]


def silenced(net: FrozenNet) -> dict[str, FrozenNet]:
    """The network and, where it has such parts, without them."""
    shape = net.topology.input
    assert isinstance(shape, TextInput)
    found = {WHOLE: net}
    if net.gates:
        found["connections"] = cut(net)
    recalls = {f for c in net.topology.clusters for f in c.text_fields if isinstance(f, Recall)}
    if recalls.union(f for f in shape.echoes if isinstance(f, Recall)):
        found["recalls"] = _without(net, see=True, echo=(Recall,))
    if shape.echoes:
        found["echoes"] = _without(net, see=False, echo=(object,))
    if isinstance(net.head, TextHead) and net.head.habit_PE is not None:
        head = replace(net.head, habit_PE=np.zeros_like(net.head.habit_PE))
        found["habits"] = replace(net, head=head)
    return found


def _without(net: FrozenNet, see: bool, echo: tuple[type, ...]) -> FrozenNet:
    """Zeros where recalls are seen (`see`), and in the gates of echoes of some types."""
    shape, outputs = net.topology.input, net.topology.outputs
    assert isinstance(shape, TextInput)
    loud = np.array([not isinstance(field, echo) for field in shape.echoes], np.float32)

    def quiet(cluster: Cluster) -> ClusterWeights:
        weights = net.clusters[cluster.id]
        seen = [not (see and isinstance(field, Recall)) for field in cluster.text_fields]
        rows_I = np.repeat(np.array(seen, np.float32), shape.embedding)
        gates_HF = weights.readout_HO[:, outputs:] * loud
        readout_HO = np.hstack([weights.readout_HO[:, :outputs], gates_HF])
        return replace(weights, see_IH=weights.see_IH * rows_I[:, None], readout_HO=readout_HO)

    return replace(net, clusters={c.id: quiet(c) for c in net.topology.clusters})


def finish(config: TextConfig, out: Path, folder: Path | None, streams: Streams) -> TextModel:
    """Trains what is not trained yet, reads what was not read yet into RESULT."""
    path = out / RESULT
    known = runs.stored(path, config)
    if known is None:
        task = prepare(config, folder, None, cache=out.parent)
        Run(config, task, out, torch.device("cpu"), config.preset).train()
    model = open_model(out)
    net = model.source
    assert isinstance(net, FrozenNet)
    if known is None:
        ids_N = streams.of(model.tokenizer)
        figures = {
            name: evaluate(replace(model, source=other), ids_N).full.perplexity
            for name, other in silenced(net).items()
        }
        kinds = tuple(net.topology.count(kind) for kind in Kind)
        size = macs(net.topology), net.topology.parameters
        found = Ablation(config.preset, config.seed, figures, *size, kinds)
        runs.store(path, config, asdict(found))
    return model


# ---------------------------------------------------------------------- report


def markdown(found: Sequence[Ablation]) -> str:
    by_preset: dict[str, list[Ablation]] = {}
    for ablation in found:
        by_preset.setdefault(ablation.preset, []).append(ablation)
    parts = list(dict.fromkeys(name for a in found for name in a.perplexity))
    shown = [name if name == WHOLE else f"without {name}" for name in parts]
    rows = [
        [
            *(preset, str(len(own)), f"{mean(a.macs for a in own) / 1e6:.2f} M"),
            f"{mean(a.parameters for a in own) / 1e6:.2f} M",
            " / ".join(f"{mean(n):.0f}" for n in zip(*(a.kinds for a in own), strict=True)),
            *(spread([a.perplexity[name] for a in own if name in a.perplexity]) for name in parts),
        ]
        for preset, own in by_preset.items()
    ]
    return table(["preset", "seeds", "MACs", "parameters", "kinds", *shown], rows)


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation}" if values else ""


def alike(nets: Mapping[str, Sequence[FrozenNet]]) -> str:
    """For every preset with two networks: how alike its first two are."""
    rows = [
        [preset, m.name, f"{m.value:.2f}", "" if m.chance is None else f"{m.chance:.2f}", m.meaning]
        for preset, own in nets.items()
        if len(own) > 1
        for m in compare(own[0], own[1])
    ]
    return table(["preset", "measure", "alike", "by chance", "meaning"], rows) if rows else ""


def ends(found: Sequence[Ablation], nets: Mapping[str, Sequence[FrozenNet]]) -> Ends:
    """Perplexities of networks as trained; both hold the runs of a preset in the same order."""
    own = {preset: [a for a in found if a.preset == preset] for preset in nets}
    return {
        preset: {
            a.seed: End(net.topology, a.perplexity[WHOLE])
            for a, net in zip(own[preset], nets[preset], strict=True)
        }
        for preset in nets
    }


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    options = runs.parser("tinystories.ablations", __doc__, seeds="0,1,2")
    options.add_argument("--networks", default=",".join(NETWORKS), help="presets, with commas")
    options.set_defaults(steps=STEPS, threads=1, report=HERE, out=Path("runs/text-ablations"))
    arguments = options.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    source = provenance(
        command_of(argv, "benchmarks.tinystories.ablations"), ("torch", "numpy"), arguments.seeds
    )

    def work() -> str:
        folder = resolve(arguments.data)
        streams = Streams(folder, HELD_OUT, TOKENS)
        found, nets, shown = list[Ablation](), dict[str, list[FrozenNet]](), ""
        for seed in runs.seeds_of(arguments):
            for name in arguments.networks.split(","):
                config = runs.budgeted(_config(name, seed), arguments)
                out = arguments.out / f"{name}-seed{seed}"
                net = finish(config, out, folder, streams).source
                assert isinstance(net, FrozenNet)
                nets.setdefault(name, []).append(net)
                raw = runs.stored(out / RESULT, config)
                assert raw is not None
                found.append(Ablation(**{**raw, "kinds": tuple(raw["kinds"])}))
                shown = write(found, nets, arguments.report, source)
        return shown

    return runs.finished(work)


def _config(name: str, seed: int) -> TextConfig:
    """Raises ConfigError for what is not a preset of a LuminaNet for text."""
    config = DENSE.get(name) or TEXT_PRESETS.get(name)
    if config is None or not isinstance(config.model, TextLuminaNet):
        raise ConfigError(f"{name!r} is no preset of a LuminaNet for text, such as {NETWORKS[0]}")
    return replace(config, seed=seed, teacher="")


def write(
    found: Sequence[Ablation], nets: Mapping[str, Sequence[FrozenNet]], folder: Path, source: str
) -> str:
    shown = markdown(found)
    notes = (
        f"Perplexity of {TOKENS} held-out tokens with a full context, mean ± standard deviation "
        "over the seeds; no teacher. Kinds are feedforward / feedback / recurrent connections.\n"
    )
    text = f"# What the parts of a text network are worth\n\n{shown}\n{notes}"
    if likeness := alike(nets):
        text += f"\n## How alike two seeds are\n\n{likeness}"
    text += section(ends(found, nets), COMPARED, "perplexity", digits=2)
    folder.mkdir(parents=True, exist_ok=True)
    body = {"source": source.strip(), "runs": [asdict(ablation) for ablation in found]}
    (folder / "ablations.json").write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    (folder / "ablations.md").write_text(f"{text}\n{source}", "utf-8")
    return text


if __name__ == "__main__":
    sys.exit(main())
