"""`python -m benchmarks.decode pretrained`: what a sampler in the graph and K tokens a call give.

Compares the step graphs of the shipped networks with numpy sampling (numpy_sampling.choose, a
row at a time) with the decode graphs, K = 1, 4 and 8, on one thread. The variants take turns, each
after a call that warms it; a figure is the median of the thread's CPU time, in which other
processes count little. With a data folder it also checks that the texts of 200 prompts are the
same for batch 1 and 32 and any K. Writes benchmarks/decode.md, or the file given by --out.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoders import STEPS, Call, Gpt2, LuminaNet, Model, decoding, parameters
from benchmarks.numpy_sampling import choose
from benchmarks.report import provenance, table
from luminanet.errors import LuminaNetError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import LENGTHS
from luminanet.sampling import Sampling
from luminanet.tokenizer import Tokenizer
from training.checkpoint import load
from training.data.datasets import load_stories, resolve

BATCHES = (1, 8, 32)
POSITIONS = (16, 64, 128, 255)
SETTINGS = {"greedy": Sampling(0.0), "t 0.8, top-p 0.95": Sampling(0.8, top_p=0.95)}
PROMPTS, PROMPT_TOKENS, TEXT_TOKENS = 200, 16, 64
TOKENS = 16
"""Drawn by a variant in one turn."""
PAGE = Path(__file__).parent / "decode.md"


def written(
    model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling, tokens: int, steps: int
) -> NDArray[np.int64]:
    """The texts [B, tokens] that follow the prompts."""
    state, asked = model.state(prompts), parameters(sampling, len(prompts))
    texts = decoding(model, state, asked, steps)
    parts = []
    for _ in range(tokens // steps):
        texts.go_on()
        parts.append(texts.ids.copy())
    return np.concatenate(parts, 1)


# ---------------------------------------------------------------------- time


def variants(model: Model, sampling: Sampling, batch: int, position: int) -> dict[str, Call]:
    """Name -> TOKENS tokens of each row, of texts that the network wrote itself.

    A GPT-2 stays at its position, so that all its calls cost the same.
    """
    start = [[0]] * batch
    room = position // max(STEPS) * max(STEPS)
    text_BT = written(model, start, Sampling(1.0), room, max(STEPS))
    prompts = np.hstack([start, text_BT])[:, : position + 1].tolist()
    generators = [np.random.default_rng(row).random for row in range(batch)]

    def draw(logits_V: Any, row: int) -> int:
        return choose(logits_V, sampling, generators[row]())

    def repeated(call: Call, times: int) -> Call:
        def calls() -> None:
            for _ in range(times):
                call()

        return calls

    found = {"numpy": repeated(model.with_numpy(model.state(prompts), draw), TOKENS)}
    for steps in STEPS:
        state, asked = model.state(prompts), parameters(sampling, batch)
        if LENGTHS in state:
            state[LENGTHS][:] = min(position, max(POSITIONS) + 1 - steps)
        found[f"K={steps}"] = repeated(decoding(model, state, asked, steps).call, TOKENS // steps)
    return found


def timed(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Name -> median milliseconds for a token of each row."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            begun_s = time.thread_time()
            call()
            seconds[name].append(time.thread_time() - begun_s)
    return {name: 1000 * statistics.median(found) / TOKENS for name, found in seconds.items()}


def compare(model: Model, positions: Sequence[int], rounds: int) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    for wanted, sampling in SETTINGS.items():
        for batch in BATCHES:
            for position in positions:
                found = timed(variants(model, sampling, batch, position), max(3, rounds // batch))
                place = str(position) if isinstance(model, Gpt2) else "any"
                cells = [f"{ms:.3f}" for ms in found.values()]
                factors = [f"{found['numpy'] / found[f'K={k}']:.2f}x" for k in STEPS]
                rows.append([model.name, wanted, str(batch), place, *cells, *factors])
                print(" | ".join(rows[-1]), flush=True)
    return rows


# ---------------------------------------------------------------------- the same texts


def same_texts(model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling) -> int:
    """How many prompts have one text for batch 1 and 32 (in another order) and every K."""
    everyone = parameters(sampling, len(prompts))
    texts: list[NDArray[np.int64]] = []
    for batch in (1, 32):
        order = np.random.default_rng(batch).permutation(len(prompts))
        for steps in STEPS:
            found = np.zeros((len(prompts), TEXT_TOKENS), np.int64)
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                asked = {name: array[rows] for name, array in everyone.items()}
                state = model.state([prompts[row] for row in rows])
                drawn = decoding(model, state, asked, steps)
                for at in range(0, TEXT_TOKENS, steps):
                    drawn.go_on()
                    found[rows, at : at + steps] = drawn.ids
            texts.append(found)
    return int(np.all([(found == texts[0]).all(1) for found in texts], axis=0).sum())


def check(models: Sequence[Model], tokenizer: Tokenizer, folder: Path | None) -> str:
    """Sentences on prompts of the validation stories."""
    stories = load_stories(folder, "validation")[:PROMPTS]
    prompts = [ids[:PROMPT_TOKENS] for ids in tokenizer.encode_batch(stories)]
    lines = []
    for model in models:
        for wanted, sampling in SETTINGS.items():
            same = same_texts(model, prompts, sampling)
            lines.append(
                f"{model.name}, {wanted}: {same} of {len(prompts)} texts of {TEXT_TOKENS} tokens "
                "are identical for batch 1 and 32 and K = 1, 4, 8.\n"
            )
            print(lines[-1], end="", flush=True)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    add = parser.add_argument
    add("root", type=Path, help="folder with gpt2-tinystories and luminanet-tinystories")
    add("--data", help="folder of Parquet files; default as in training, none: no check of texts")
    add("--rounds", type=int, default=40, help="turns of each variant at batch 1 (default 40)")
    add("--out", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    try:
        names = ("luminanet-tinystories", "gpt2-tinystories")
        ours, theirs = (load(arguments.root / name / "ckpt.pt") for name in names)
        assert isinstance(ours.net, FrozenNet)
        assert isinstance(theirs.net, Gpt2Net)
        models = (LuminaNet(ours.net), Gpt2(theirs.net))
        folder = resolve(arguments.data)
        tokenizer = Tokenizer.from_json(ours.tokenizer or "")
        texts = check(models, tokenizer, folder) if folder else "Texts were not compared.\n"
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [*compare(models[0], (128,), arguments.rounds)]
    rows += compare(models[1], POSITIONS, arguments.rounds)
    factors = [f"K={k} is" for k in STEPS]
    header = ["network", "sampling", "batch", "position", "onnxruntime + numpy"]
    report = table([*header, *(f"K={k}" for k in STEPS), *factors], rows)
    command = f"python -m benchmarks.decode {arguments.root.name} --rounds {arguments.rounds}"
    source = provenance(command, ("onnxruntime", "numpy"), "0")
    title = "# Decoding with the sampler in the graph\n\n"
    legend = (
        "Milliseconds for one more token of every row of the batch, one thread, and how much "
        "faster than onnxruntime + numpy the decode graph with K tokens a call is.\n\n"
    )
    arguments.out.write_text(f"{title}{legend}{report}\n{texts}\n{source}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
