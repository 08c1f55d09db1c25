"""`python -m benchmarks.costs pretrained`: the cost model of choose.py, measured again.

Times all forms of the LuminaNets of a folder and of synthetic ones, one thread, and prints the
table COSTS, to be pasted there.
"""

import argparse
import sys
from dataclasses import astuple
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.forms import networks, synthetic
from benchmarks.latency import nonnegative
from export.checks.timing import example, interleaved, onnxruntime_call
from export.network.choose import COSTS, Work, graphs, work_of
from luminanet.errors import LuminaNetError


def fit(folder: Path) -> str:
    """The coefficients of the cost model that explain the times of many networks best."""
    sizes = [(8, 20, 32, 2), (8, 50, 128, 2), (24, 120, 64, 3), (64, 240, 64, 4), (32, 600, 128, 2)]
    nets = [*networks(folder).values(), *(synthetic(*size) for size in sizes)]
    lines = []
    for batch in COSTS:
        works, times_ns = [], []
        for net in nets:
            models = dict(graphs(net))
            inputs = example(net, batch)
            calls = {form: partial(onnxruntime_call(m), inputs) for form, m in models.items()}
            for form, seconds in interleaved(calls).items():
                works.append(work_of(models[form]))
                times_ns.append(1e9 * seconds)
        names = ("node_ns", "step_ns", "kmac_ns", "batched_kmac_ns")
        found = zip(names, explain(works, times_ns), strict=True)
        lines.append(f"    {batch}: Cost({', '.join(f'{n}={x:.0f}' for n, x in found)}),\n")
    return f"COSTS: Mapping[int, Cost] = {{\n{''.join(lines)}}}\n"


def explain(works: list[Work], times_ns: list[float]) -> list[float]:
    """Least squares of relative errors, without negative coefficients."""
    rows = np.array([astuple(work) for work in works], float)
    rows[:, 2] -= rows[:, 3]
    rows[:, 2:] /= 1000
    relative = rows / np.array(times_ns)[:, None]
    return [float(x) for x in nonnegative(relative, np.ones(len(rows)))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with */ckpt.pt")
    arguments = parser.parse_args()
    try:
        print(fit(arguments.folder))
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
