"""`python -m benchmarks.forms pretrained`: how fast each form of a graph is, against torch.

Every LuminaNet of the folder and a synthetic one of 64 clusters and 240 connections: all forms of
lowerings.py in onnxruntime, and the training network in torch, eager and compiled. One thread;
all take turns, and the table holds medians of the thread's own time. Writes benchmarks/forms.md.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.report import provenance, table
from export.checks.timing import example, interleaved, onnxruntime_call
from export.network.choose import BATCHES, choose
from export.network.lowerings import Form
from export.network.unroll import unroll
from luminanet.errors import LuminaNetError
from luminanet.fields import ImageInput, Patch
from luminanet.frozen import FrozenNet
from luminanet.topology import Activation, Cluster, Connection, Topology
from training.checkpoint import load
from training.model.initial import initial_net
from training.model.network import Network

PAGE = Path(__file__).parent / "forms.md"
EAGER, COMPILED = "torch eager", "torch.compile"
NEAR = 1.05
FASTER_THAN_EAGER = 2.0


def in_torch(net: FrozenNet) -> Callable[[Tensor], Tensor]:
    """The training network as it would be used: windows [B, W] -> the newest token's logits."""
    network = Network(net).eval()

    def newest(tokens_BW: Tensor) -> Tensor:
        logits_B1V: Tensor = network(tokens_BW, newest=True)
        return logits_B1V.squeeze(1)

    return newest if network.is_text else network


def synthetic(
    clusters: int = 64, links: int = 240, width: int = 64, levels: int = 4, seed: int = 0
) -> FrozenNet:
    """CIFAR-10 clusters on 8x8 patches with random connections."""
    rng = np.random.default_rng(seed)
    spots = [(top, left) for top in range(0, 32, 8) for left in range(0, 32, 8)]
    placed = tuple(
        Cluster(i, i * levels // clusters, width, (Patch((0, 1, 2), *spots[i % 16], 8, 8),))
        for i in range(clusters)
    )
    chosen = rng.choice(clusters**2, min(links, clusters**2), replace=False)
    found = tuple(Connection(*map(int, divmod(pair, clusters))) for pair in chosen)
    shape = ImageInput(3, 32, 32)
    return initial_net(Topology(shape, 64, 10, Activation.GELU, placed, found), seed)


def networks(folder: Path) -> dict[str, FrozenNet]:
    """The LuminaNets below a folder, by name, and the synthetic one."""
    nets = {path.parent.name: load(path).net for path in sorted(folder.glob("*/ckpt.pt"))}
    found = {name: net for name, net in nets.items() if isinstance(net, FrozenNet)}
    return found | {"64 clusters, 240 connections": synthetic()}


@dataclass(frozen=True, slots=True)
class Speeds:
    """One network: microseconds by batch size and by name, of forms and of torch."""

    choices: Mapping[int, Form]
    """The smallest batch that a form was chosen for -> the form."""
    us: Mapping[int, Mapping[str, float]]

    def chosen(self, batch: int) -> Form:
        return self.choices[max(least for least in self.choices if least <= batch)]

    def ratios(self, batch: int) -> dict[str, float]:
        """How much slower than the chosen form each is."""
        found = self.us[batch]
        return {name: us / found[self.chosen(batch)] for name, us in found.items()}

    def forms(self, batch: int) -> dict[str, float]:
        return {name: us for name, us in self.us[batch].items() if name in list(Form)}

    def beyond_best(self) -> float:
        """How much slower than the best form the chosen one is, at its worst batch size."""
        return max(
            us[self.chosen(batch)] / min(self.forms(batch).values())
            for batch, us in self.us.items()
        )


def compare(net: FrozenNet, batches: tuple[int, ...] = BATCHES, compiled: bool = True) -> Speeds:
    """All forms and torch; where the compiler does not work it is left out and said so."""
    calls = {str(form): onnxruntime_call(unroll(net, form)) for form in Form}
    us: dict[int, Mapping[str, float]] = {}
    for batch in batches:
        inputs = example(net, batch)
        turns: dict[str, Callable[[], object]] = {
            name: partial(call, inputs) for name, call in calls.items()
        }
        turns |= _torch_calls(net, inputs, compiled)
        us[batch] = {name: 1e6 * seconds for name, seconds in interleaved(turns).items()}
    return Speeds({least: choice.form for least, choice in choose(net).items()}, us)


def _torch_calls(
    net: FrozenNet, inputs: NDArray[np.generic], compiled: bool
) -> dict[str, Callable[[], object]]:
    module, tensor = in_torch(net), torch.from_numpy(inputs)

    def run(forward: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.inference_mode():
            return forward(tensor)

    calls: dict[str, Callable[[], object]] = {EAGER: partial(run, module)}
    if compiled:
        torch.compiler.reset()
        fast = torch.compile(module, dynamic=False)
        try:
            run(fast)
            calls[COMPILED] = partial(run, fast)
        except Exception as error:  # the compiler needs a C++ compiler, and has its own errors
            print(f"torch.compile does not work here: {type(error).__name__}: {error}")
    return calls


def report(speeds: Mapping[str, Speeds]) -> str:
    """Times with the ratio to the chosen form, then the marks."""
    names = (*Form, EAGER, COMPILED)
    rows = []
    for network, found in speeds.items():
        for batch, us in found.us.items():
            ratios = found.ratios(batch)
            cells = [f"{us[n]:.0f} ({ratios[n]:.2f})" if n in us else "-" for n in names]
            rows.append([network, str(batch), found.chosen(batch), *cells])
    times = table(["network", "batch", "chosen", *(f"{name}, us" for name in names)], rows)
    return f"{times}\n{''.join(_marks(name, found) for name, found in speeds.items())}"


def _marks(network: str, found: Speeds) -> str:
    first, *others = sorted(found.choices.items())
    also = "".join(f" and {form} from batch {least}" for least, form in others)
    eager = found.ratios(min(found.us))[EAGER]
    return (
        f"* {network}: {first[1]}{also}; {eager:.1f}x faster than {EAGER} at batch "
        f"{min(found.us)} (mark {FASTER_THAN_EAGER:.0f}x), within "
        f"{100 * (found.beyond_best() - 1):.0f} % of the best form at every batch size "
        f"(mark {100 * (NEAR - 1):.0f} %).\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with */ckpt.pt")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found = report({name: compare(net) for name, net in networks(arguments.folder).items()})
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found)
    source = provenance(
        f"python -m benchmarks.forms {arguments.folder}", ("onnxruntime", "torch"), "0"
    )
    title = "# The forms of a graph, one thread\n\n"
    legend = (
        "In brackets: the ratio to the chosen form. Torch is the training network, asked for the "
        "newest token alone; unlike a graph it norms its embeddings at every call.\n\n"
    )
    arguments.out.write_text(f"{title}{legend}{found}\n{source}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
