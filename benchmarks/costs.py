"""`python -m benchmarks.costs pretrained`: the cost model of choose.py, measured again.

Times all forms of the LuminaNets of a folder and of synthetic ones, one thread, and writes
luminanet/cost/forms.json. The next network that is frozen may get another form, and other bytes.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.forms import networks, synthetic
from benchmarks.latency import explain
from export.checks.timing import example, interleaved, onnxruntime_call
from export.graph.count import work_of
from export.network.choose import BATCHES, graphs
from luminanet.cost.model import FORMS_MODEL, Coefficients, Model, Work, write
from luminanet.errors import LuminaNetError
from luminanet.frozen import FrozenNet

SIZES = ((8, 20, 32, 2), (8, 50, 128, 2), (24, 120, 64, 3), (64, 240, 64, 4), (32, 600, 128, 2))
"""Clusters, connections, width and levels of synthetic networks."""


def fit(nets: list[FrozenNet], batches: tuple[int, ...] = BATCHES) -> Model:
    """The coefficients by batch size that explain the times of many networks best."""
    return {batch: _fit(nets, batch) for batch in batches}


def _fit(nets: list[FrozenNet], batch: int) -> Coefficients:
    works: list[Work] = []
    times_us: list[float] = []
    for net in nets:
        models = dict(graphs(net))
        inputs = example(net, batch)
        calls = {form: partial(onnxruntime_call(m), inputs) for form, m in models.items()}
        for form, seconds in interleaved(calls).items():
            works.append(work_of(models[form]))
            times_us.append(1e6 * seconds)
    return explain(works, times_us)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with */ckpt.pt")
    parser.add_argument("--json", type=Path, default=FORMS_MODEL, help="where the model goes")
    arguments = parser.parse_args(argv)
    try:
        nets = [*networks(arguments.folder).values(), *(synthetic(*size) for size in SIZES)]
        arguments.json.write_text(write(fit(nets)), "utf-8")
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
