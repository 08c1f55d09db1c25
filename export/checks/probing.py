"""Probes of a network, and a whole artifact tried on them (luminanet/artifact/probes.py).

Shape legend: N probes, K tokens drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.checks.assess import Net
from export.checks.verify import random_images, random_windows
from export.graph.session import CPU, Session
from luminanet import gpt2, interface, reference, sampling
from luminanet.artifact import probes
from luminanet.artifact.directory import Artifact
from luminanet.artifact.manifest import (
    MODEL,
    GraphEntry,
    Manifest,
    Role,
    Runtime,
)
from luminanet.artifact.probes import Probes
from luminanet.errors import ExportError, VerificationError
from luminanet.fields import TextInput
from luminanet.gpt2 import Gpt2Net
from luminanet.interface import (
    DRAWN,
    LENGTHS,
    LOGITS,
    LOGS,
    READ,
    STEPS,
    TOKENS,
    Arrays,
    CacheGraphs,
    ImageGraphs,
)
from luminanet.sampling import Sampling

COUNT = 4
PROMPT = 8
"""Tokens of a GPT-2's prompt."""
AHEAD = 4
"""Tokens that are drawn after a prompt."""
GREEDY = Sampling(temperature=0)


def take(net: Net, seed: int = 0) -> Probes:
    """Asks the numpy reference about seeded random inputs; text goes on greedily."""
    rng = np.random.default_rng(seed)
    if isinstance(net, Gpt2Net):
        tokens = min(PROMPT, net.config.context)
        return _text(net, rng.integers(0, net.config.vocab_size, (COUNT, tokens)))
    shape = net.topology.input
    if isinstance(shape, TextInput):
        return _text(net, random_windows(shape, COUNT, rng))
    pixels = np.rint(random_images(shape, COUNT, rng) * 255).astype(np.uint8)
    nothing = np.zeros((COUNT, 0))
    asked = Probes(pixels, nothing, nothing.astype(np.int64), nothing)
    return Probes(pixels, reference.forward(net, asked.images), asked.drawn, nothing)


def _text(net: Net, ids_NT: NDArray[np.int64]) -> Probes:
    text_NT, first_NV, drawn, logs = ids_NT, None, [], []
    room = AHEAD
    if isinstance(net, Gpt2Net):
        room = min(AHEAD, net.config.context - ids_NT.shape[1] + 1)
    for _ in range(room):
        if isinstance(net, Gpt2Net):
            logits_NV = gpt2.forward(net, text_NT)[:, -1]
        else:
            logits_NV = reference.forward(net, text_NT[:, -ids_NT.shape[1] :])
        first_NV = logits_NV if first_NV is None else first_NV
        chosen = [sampling.choose(logits_V, (), GREEDY, 0) for logits_V in logits_NV]
        drawn.append([token.id for token in chosen])
        logs.append([token.log_probability for token in chosen])
        text_NT = np.hstack([text_NT, np.array(drawn[-1])[:, None]])
    assert first_NV is not None
    return Probes(ids_NT, first_NV, np.array(drawn).T.copy(), np.array(logs).T.copy())


# ---------------------------------------------------------------------- an artifact on this machine


@dataclass(frozen=True, slots=True)
class Tried:
    """A graph on this machine: its distance from the reference as a share of its bound, or why it
    was not run."""

    file: str
    ratio: float | None
    why_not: str = ""

    @property
    def is_bad(self) -> bool:
        return self.ratio is not None and not self.ratio <= 1


def check(artifact: Artifact, provider: str = CPU) -> Iterator[Tried]:
    """Runs every graph that onnxruntime can run with `provider` on the artifact's probes.

    Raises ArtifactError for damaged files, ExportError where the provider is not there.
    """
    manifest = artifact.manifest
    asked = probes.read(artifact)
    plain = Session(onnx.load_model_from_string(artifact.read(MODEL)), provider=provider)
    for file, entry in manifest.graphs.items():
        if entry.runtime is Runtime.TENSORRT and provider == CPU:
            yield Tried(file, None, "it is for TensorRT: try it on a GPU")
            continue
        try:
            model = onnx.load_model_from_string(artifact.read(file))
            session = Session(model, provider=provider)
            yield Tried(file, _ratio(session, plain, manifest, entry, asked))
        except (ExportError, VerificationError) as error:
            if provider == CPU:
                raise
            yield Tried(file, None, str(error))


def _ratio(
    session: Session, plain: Session, manifest: Manifest, entry: GraphEntry, asked: Probes
) -> float:
    graphs = interface.of(manifest)
    if entry.role is Role.LOGITS:
        inputs = asked.images if isinstance(graphs, ImageGraphs) else asked.inputs
        return probes.logits_ratio(asked, entry, session.run(graphs.feeds(inputs))[LOGITS])
    feeds: dict[str, NDArray[Any]] = dict(sampling.asked_rows([GREEDY] * len(asked.inputs)))
    if isinstance(graphs, CacheGraphs):
        feeds |= _begun(plain, graphs, asked)
    else:
        feeds |= {TOKENS: asked.inputs, STEPS: np.array(asked.drawn.shape[1])}
    found = session.run(feeds)
    return probes.drawn_ratio(asked, manifest, entry, found[DRAWN], found[LOGS])


def _begun(plain: Session, graphs: CacheGraphs, asked: Probes) -> Arrays:
    """The text of a GPT-2, and the cache of all of it but the newest token."""
    count, known = len(asked.inputs), asked.inputs.shape[1] - 1
    text = np.full((count, graphs.context), reference.NO_TOKEN, np.int64)
    text[:, : known + 1] = asked.inputs
    cache = graphs.empty(count)
    if known:
        cache = interface.carried(plain.run(graphs.feeds(asked.inputs[:, :known])))
    lengths = np.full(count, known, np.int32)
    return {TOKENS: text, LENGTHS: lengths, READ: np.array(1), **cache}
