"""Ten stories of each model, unedited: `python -m benchmarks.tinystories.stories MODEL ...`.

Prompts, seeds and sampling are fixed; a story is cut where the model ends it, or at 200 tokens.
Models are as for benchmarks.text. Shape legend: B stories, W window, V vocabulary.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.report import provenance
from benchmarks.text.models import TextModel, open_model
from export.graph.declare import declared
from luminanet.artifact.manifest import Family
from luminanet.errors import DataError, LuminaNetError
from luminanet.interface import LENGTHS, LOGITS, CacheGraphs, ImageGraphs, cache_of, presents
from luminanet.reference import NO_TOKEN
from luminanet.sampling import Sampling, choose
from luminanet.tokenizer import Tokenizer
from serving.runtimes.onnxruntime_cpu import OrtCpu
from training.train import command_of

PAGE = Path(__file__).parent / "stories.md"
TOKENS = 200
SAMPLING = Sampling(temperature=0.7, top_p=0.95)
PROMPTS = (
    "Once upon a time, there was a little girl named Lily.",
    "One day, Tom and his mom went to the park.",
    "Ben had a red ball. He loved to",
    "There was a big dog who lived in a small house.",
    'Mia looked at the sky and said, "',
    "Once there was a brave bird who could not",
    "It was raining, and Sam was sad because",
    "Anna found a shiny key under the tree.",
    "The little boat was lost at sea.",
    'The old man smiled and asked, "Why',
)


class Reader:
    """A model that reads a token of every row at a time; what it knows of the texts is its own."""

    def __init__(self, graph: onnx.ModelProto, rows: int) -> None:
        runtime, graphs = OrtCpu(graph.SerializeToString(), 1, "stories"), declared(graph)
        assert not isinstance(graphs, ImageGraphs)
        self.logits_BV = np.zeros((rows, graphs.vocab_size), np.float32)
        width = 1 if isinstance(graphs, CacheGraphs) else graphs.context
        self._tokens: NDArray[np.int64] = np.full((rows, width), NO_TOKEN, np.int64)
        inputs = graphs.feeds(self._tokens)
        self._lengths = inputs.get(LENGTHS)
        outputs = {LOGITS: self.logits_BV, **presents(cache_of(inputs))}
        self._run = runtime.bind(inputs, outputs)

    def read(self, tokens_B: Sequence[int]) -> NDArray[np.float32]:
        """The logits [B, V] of what follows; overwritten by the next call."""
        self._tokens[:, :-1] = self._tokens[:, 1:]
        self._tokens[:, -1] = tokens_B
        self._run()
        if self._lengths is not None:
            self._lengths += 1
        return self.logits_BV


def stories(model: TextModel, prompts: Sequence[str] = PROMPTS, tokens: int = TOKENS) -> list[str]:
    """Each prompt with what the model makes of it; story i has seed i."""
    tokenizer = Tokenizer.from_json(model.tokenizer)
    texts = [tokenizer.encode(prompt) for prompt in prompts]
    begun = [len(text) for text in texts]
    if min(begun) < 1:
        raise DataError("a prompt is empty: a story begins with a word at least")
    reader = Reader(model.plain(), len(texts))
    for position in range(min(_room(model), max(begun) + tokens) - 1):
        logits_BV = reader.read([text[min(position, len(text) - 1)] for text in texts])
        for row, text in enumerate(texts):
            drawn = len(text) - begun[row]
            is_open = drawn < tokens and text[-1] != tokenizer.end_id
            if position == len(text) - 1 and is_open:
                sampling = Sampling(SAMPLING.temperature, top_p=SAMPLING.top_p, seed=row)
                text.append(choose(logits_BV[row], text, sampling, drawn).id)
    return [tokenizer.decode([i for i in text if i != tokenizer.end_id]) for text in texts]


def _room(model: TextModel) -> int:
    """Tokens that a text can have: a window slides, a cache is full some day."""
    return model.context if model.family is Family.GPT2 else sys.maxsize


def page(models: Sequence[TextModel], source: str) -> str:
    parts = ["# Ten stories of each model\n\nUnedited; the prompt is in bold. Temperature "]
    parts.append(f"{SAMPLING.temperature}, top-p {SAMPLING.top_p}, seeds 0 to 9, at most {TOKENS} ")
    parts.append("tokens.\n")
    for model in models:
        parts.append(f"\n## {model.name}\n")
        for prompt, story in zip(PROMPTS, stories(model), strict=True):
            quoted = story.removeprefix(prompt).replace("\n", "\n> ")
            parts.append(f"\n> **{prompt}**{quoted}\n")
    return "".join([*parts, f"\n{source}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    p = argparse.ArgumentParser(prog="python -m benchmarks.tinystories.stories")
    p.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    p.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    arguments = p.parse_args(words)
    command = command_of(words, "benchmarks.tinystories.stories")
    source = provenance(command, ("onnxruntime", "numpy", "tokenizers"), "0 to 9")
    try:
        text = page([open_model(path) for path in arguments.models], source)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    arguments.out.write_text(text, "utf-8")
    print(f"{arguments.out}: {len(PROMPTS)} stories of {len(arguments.models)} model(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
