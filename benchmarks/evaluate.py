"""`python -m benchmarks.evaluate pretrained --data DIR`: what the frozen artifacts can do.

Runs the ONNX files themselves on the CIFAR-10 test set and the TinyStories validation split, and
writes benchmarks/quality.md, quality.json, the table in README.md and the model cards. Text is cut
into blocks of 256 tokens; every model predicts the same tokens from what precedes them in their
block, GPT-2 through its KV cache, a token at a time, as it is served.

Shape legend: N blocks, B batch, T tokens of a block, W window, V vocabulary.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.cards import card
from benchmarks.quality import Quality, Tally
from benchmarks.report import provenance, replace_marked, table
from luminanet import interface
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import MODEL, TOKENIZER, Family, Manifest, Task
from luminanet.errors import ArtifactError, LuminaNetError
from luminanet.interface import IMAGES, LENGTHS, LOGITS, TOKENS, CacheGraphs, presents
from luminanet.reference import NO_TOKEN
from luminanet.tokenizer import Tokenizer
from training.data.datasets import Images, Tokens, load_images, load_stories, resolve, tokenize

BLOCK = 256
BATCH = 250
HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def classify(session: ort.InferenceSession, images: Images, manifest: Manifest) -> Quality:
    tally = Tally()
    for start in tqdm(range(0, len(images), BATCH), desc=manifest.name):
        part = slice(start, start + BATCH)
        pixels = images.pixels_NCYX[part].astype(np.float32) / 255
        (logits,) = session.run([LOGITS], {IMAGES: pixels})
        tally.add(logits, images.labels_N[part])
    return tally.quality(manifest)


def predict(session: ort.InferenceSession, tokens: Tokens, manifest: Manifest) -> Quality:
    """Perplexity, bits per byte and accuracy over all whole blocks."""
    n = (len(tokens) - 1) // BLOCK
    inputs_NT = tokens.ids_N[: n * BLOCK].reshape(n, BLOCK)
    targets_NT = tokens.ids_N[1 : n * BLOCK + 1].reshape(n, BLOCK)
    steps = cached if manifest.family is Family.GPT2 else windowed
    tally = Tally()
    with tqdm(total=n * BLOCK, desc=manifest.name, unit=" tokens", unit_scale=True) as bar:
        for start in range(0, n, BATCH):
            part = slice(start, start + BATCH)
            for t, logits in enumerate(steps(session, inputs_NT[part], manifest)):
                tally.add(logits, targets_NT[part, t])
                bar.update(len(logits))
    return tally.quality(manifest, text_bytes=tokens.bytes * tally.count / len(tokens))


def windowed(
    session: ort.InferenceSession, inputs_BT: NDArray[np.int64], manifest: Manifest
) -> Iterator[NDArray[np.float32]]:
    """Logits [B, V] after each token, from the window that ends there."""
    padding = ((0, 0), (manifest.context, 0))
    padded = np.pad(inputs_BT, padding, constant_values=NO_TOKEN)
    for t in range(inputs_BT.shape[1]):
        window_BW = np.ascontiguousarray(padded[:, t + 1 : t + 1 + manifest.context])
        yield session.run([LOGITS], {TOKENS: window_BW})[0]


def cached(
    session: ort.InferenceSession, inputs_BT: NDArray[np.int64], manifest: Manifest
) -> Iterator[NDArray[np.float32]]:
    """Logits [B, V] after each token, with the cache updated in place."""
    if inputs_BT.shape[1] > manifest.context:
        raise ArtifactError(f"{manifest.name} has a context of {manifest.context}, not {BLOCK}")
    batch, graphs = len(inputs_BT), interface.of(manifest)
    assert isinstance(graphs, CacheGraphs)
    value = ort.OrtValue.ortvalue_from_numpy
    cache = {name: value(array) for name, array in graphs.empty(batch).items()}
    for t in range(inputs_BT.shape[1]):
        binding = session.io_binding()
        binding.bind_cpu_input(TOKENS, np.ascontiguousarray(inputs_BT[:, t : t + 1]))
        binding.bind_cpu_input(LENGTHS, np.full(batch, t, np.int32))
        for name, held in cache.items():
            binding.bind_ortvalue_input(name, held)
        for name, held in presents(cache).items():
            binding.bind_ortvalue_output(name, held)
        binding.bind_output(LOGITS)
        session.run_with_iobinding(binding)
        yield binding.get_outputs()[-1].numpy()


def evaluate(artifact: Artifact, folder: Path | None, limit: int | None) -> Quality:
    session = ort.InferenceSession(artifact.read(MODEL), providers=["CPUExecutionProvider"])
    if artifact.manifest.task is Task.CLASSIFICATION:
        images = load_images(folder, "test")
        return classify(session, images.part(np.arange(len(images))[:limit]), artifact.manifest)
    tokenizer = Tokenizer.from_json(artifact.read(TOKENIZER).decode())
    stories = load_stories(folder, "validation")[:limit]
    return predict(session, tokenize(stories, tokenizer), artifact.manifest)


def tables(results: list[tuple[Artifact, Quality]]) -> str:
    """Markdown, one table a task."""

    def rows(wanted: Task, measures: Callable[[Quality], list[str]]) -> list[list[str]]:
        return [[q.name, *size(q), *measures(q)] for a, q in results if a.manifest.task is wanted]

    def size(q: Quality) -> tuple[str, str]:
        return f"{q.parameters / 1e6:.2f} M", f"{q.macs / 1e6:.2f} M"

    images = table(
        ["CIFAR-10 test", "parameters", "MACs per image", "top-1", "top-5", "loss"],
        rows(Task.CLASSIFICATION, lambda q: [f"{q.top1:.2%}", f"{q.top5:.2%}", f"{q.loss:.3f}"]),
    )
    text = table(
        [
            *("TinyStories validation", "parameters", "MACs per token"),
            *("perplexity", "bits per byte", "top-1"),
        ],
        rows(
            Task.GENERATION,
            lambda q: [f"{q.perplexity:.2f}", f"{q.bits_per_byte:.3f}", f"{q.top1:.2%}"],
        ),
    )
    return f"{images}\n{text}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description=__doc__)
    parser.add_argument("root", type=Path, help="folder with artifacts below it")
    parser.add_argument("--data", help="folder of Parquet files; default as in training")
    parser.add_argument("--limit", type=int, help="images or stories; nothing is written then")
    arguments = parser.parse_args()
    try:
        folder = resolve(arguments.data)
        directories = sorted(path.parent for path in arguments.root.rglob("manifest.json"))
        artifacts = [Artifact.open(directory) for directory in directories]
        results = [
            (artifact, evaluate(artifact, folder, arguments.limit)) for artifact in artifacts
        ]
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = tables(results)
    print(report)
    if arguments.limit is None:
        write(report, results)
    return 0


def write(report: str, results: list[tuple[Artifact, Quality]]) -> None:
    """benchmarks/quality.*, the table in README.md, and a model card beside each artifact."""
    packages = ("onnxruntime", "numpy", "tokenizers")
    source = provenance("python -m benchmarks.evaluate pretrained", packages, "0 (one)")
    title = "# Quality of the shipped artifacts, through their ONNX files\n\n"
    body: dict[str, Any] = {"source": source.strip(), "results": [asdict(q) for _, q in results]}
    (HERE / "quality.md").write_text(f"{title}{report}\n{source}", "utf-8")
    (HERE / "quality.json").write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    replace_marked(README, "quality", f"\n{report}\n{source}\n")
    for artifact, quality in results:
        text = card(artifact.manifest, quality, source)
        (artifact.directory.parent / "README.md").write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
