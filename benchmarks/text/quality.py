"""Text model and tokens -> loss, bits per byte and hits, with a full context and by position.

The stream is cut into blocks of 256 tokens, one every 128. What is at position t of a block has
t + 1 tokens before it, so the second halves together show every token but the first 128 once, each
with more than 128 tokens of history: the full context. Every other block alone shows the
stream once, from the beginning of each block: by position, and as benchmarks.evaluate does.

Shape legend: N tokens of the stream, K blocks, B blocks at once, T = 256 positions, U = T + 1,
E width of the features, R rows of the output layer at once, V vocabulary.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.evaluate import cached, windowed
from benchmarks.text.models import TextModel
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import MODEL, Family
from luminanet.errors import DataError
from luminanet.gpt2 import Gpt2Net
from luminanet.tokenizer import END_OF_TEXT
from training.baselines.gpt2 import Gpt2
from training.model.network import Network

BLOCK = 256
HALF = BLOCK // 2
AT_ONCE = 32
ROWS = 256
POSITIONS = ((0, 16), (16, 32), (32, 64), (64, 128), (128, 256))


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over `tokens`: loss in nats, share of hits; bits per byte of the text they spell."""

    tokens: int
    loss: float
    bits_per_byte: float
    top1: float

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)


@dataclass(frozen=True, slots=True)
class TextQuality:
    """One model on one stream. `positions` has keys such as "16-31"."""

    full: Figures
    blocks: Figures
    positions: Mapping[str, Figures]

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "TextQuality":
        positions = {name: Figures(**figures) for name, figures in raw["positions"].items()}
        return TextQuality(Figures(**raw["full"]), Figures(**raw["blocks"]), positions)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Nats and hits [B, T] of the last T of U tokens, each from what precedes it in its block."""
Score = Callable[[NDArray[np.int64]], Scores]


def evaluate(model: TextModel, ids_N: NDArray[Any]) -> TextQuality:
    """Raises DataError when the stream is too short, or the model sees less than a block."""
    nats_KT, hits_KT, tokens_KU = judged(model, ids_N)
    bytes_KT = spelled(model.tokenizer)[tokens_KU[:, 1:]]

    def figures(rows: slice, columns: slice) -> Figures:
        nats = nats_KT[rows, columns]
        bits = nats.sum() / math.log(2)
        return Figures(
            tokens=nats.size,
            loss=float(nats.mean()),
            bits_per_byte=float(bits / bytes_KT[rows, columns].sum()),
            top1=float(hits_KT[rows, columns].mean()),
        )

    every, apart = slice(None), slice(None, None, 2)
    return TextQuality(
        full=figures(every, slice(HALF, None)),
        blocks=figures(apart, every),
        positions={f"{a}-{b - 1}": figures(apart, slice(a, b)) for a, b in POSITIONS},
    )


def judged(
    model: TextModel, ids_N: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[Any]]:
    """Nats and hits [K, T] of the last T tokens of each block, and the blocks [K, U]. Raises
    DataError when the stream is too short, or the model sees less than a block."""
    if model.family is Family.GPT2 and model.context < BLOCK:
        raise DataError(
            f"{model.name} has a context of {model.context}, and {BLOCK} are needed: train it with "
            f"--context {BLOCK}"
        )
    if len(ids_N) <= BLOCK:
        raise DataError(f"{len(ids_N)} tokens are too few: {BLOCK + 1} are the least")
    tokens_KU = np.lib.stride_tricks.sliding_window_view(ids_N, BLOCK + 1)[::HALF]
    score = (
        through_onnxruntime(model) if isinstance(model.source, Artifact) else through_torch(model)
    )
    parts = []
    with tqdm(
        total=len(tokens_KU) * BLOCK,
        desc=model.name,
        unit=" tokens",
        unit_scale=True,
        leave=False,
    ) as bar:
        for start in range(0, len(tokens_KU), AT_ONCE):
            parts.append(score(tokens_KU[start : start + AT_ONCE].astype(np.int64)))
            bar.update(parts[-1][0].size)
    nats_KT, hits_KT = (np.concatenate(part) for part in zip(*parts, strict=True))
    return nats_KT, hits_KT, tokens_KU


def through_torch(model: TextModel) -> Score:
    """For a network with weights: a whole block at once."""
    source = model.source
    assert not isinstance(source, Artifact)
    net = Gpt2.thaw(source) if isinstance(source, Gpt2Net) else Network(source)
    net.eval()

    def score(tokens_BU: NDArray[np.int64]) -> Scores:
        tokens = torch.from_numpy(tokens_BU)
        with torch.inference_mode():
            features_NE = net.features(tokens[:, :-1]).flatten(0, 1)
            nats_N, hits_N = _judge(features_NE, net.vocabulary, tokens[:, 1:].flatten())
        shape = (len(tokens_BU), -1)
        return nats_N.double().view(shape).numpy(), hits_N.view(shape).numpy()

    return score


def _judge(features_NE: Tensor, vocabulary_VE: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Some rows at a time, so that logits stay in the cache."""
    nats, hits = [], []
    for start in range(0, len(targets_N), ROWS):
        targets_R = targets_N[start : start + ROWS]
        logits_RV = features_NE[start : start + ROWS] @ vocabulary_VE.T
        chosen_R = logits_RV.gather(1, targets_R[:, None])[:, 0]
        nats.append(logits_RV.logsumexp(1) - chosen_R)
        hits.append(logits_RV.argmax(1) == targets_R)
    return torch.cat(nats), torch.cat(hits)


def through_onnxruntime(model: TextModel) -> Score:
    """For an artifact: its plain graph, a token at a time, as it is served."""
    assert isinstance(model.source, Artifact)
    manifest = model.source.manifest
    session = ort.InferenceSession(model.source.read(MODEL), _one_thread(), PROVIDERS)
    steps = cached if manifest.family is Family.GPT2 else windowed

    def score(tokens_BU: NDArray[np.int64]) -> Scores:
        nats, hits = [], []
        for t, logits_BV in enumerate(steps(session, tokens_BU[:, :-1], manifest)):
            wanted_B1 = tokens_BU[:, t + 1 : t + 2]
            highest_B1 = logits_BV.max(1, keepdims=True)
            total_B1 = np.exp(logits_BV - highest_B1).sum(1, keepdims=True, dtype=np.float64)
            chosen_B1 = np.take_along_axis(logits_BV, wanted_B1, 1)
            nats.append(np.log(total_B1) + highest_B1 - chosen_B1)
            hits.append(logits_BV.argmax(1)[:, None] == wanted_B1)
        return np.hstack(nats), np.hstack(hits)

    return score


PROVIDERS = ["CPUExecutionProvider"]


def _one_thread() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def spelled(tokenizer: str) -> NDArray[np.int64]:
    """How many bytes of text each token stands for; the end of a text is none.

    In a byte-level vocabulary every character of a token's name is one byte.
    """
    raw = json.loads(tokenizer)
    named = dict(raw["model"]["vocab"])
    added = {token["content"]: token["id"] for token in raw.get("added_tokens", [])}
    bytes_V = np.zeros(max([*named.values(), *added.values()]) + 1, np.int64)
    for name, number in named.items():
        bytes_V[number] = 0 if name == END_OF_TEXT else len(name)
    return bytes_V
