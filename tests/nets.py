"""Networks for tests: random topologies, random weights, and three tiny artifacts. No torch."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from export.assembly.build import Maker
from export.assembly.describe import Frozen, Label, Package, pack
from export.assembly.variants import Request, parse_precisions, variants
from export.checks.assess import Net
from luminanet.artifact.directory import write
from luminanet.fields import ImageInput, Interval, Patch, Recall, TextField, TextInput
from luminanet.frozen import Array, ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.tokenizer import Tokenizer
from luminanet.topology import Activation, Cluster, Connection, Topology

SENTENCES = (
    "Once upon a time, there was a little girl named Lily.",
    "She liked to play with her red ball in the park.",
    "One day, a big dog took the ball and ran away.",
    "Lily was sad, but the dog came back and they played together.",
)
LABELS = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def random_topology(seed: int, text: bool) -> Topology:
    """Any topology: feedforward, feedback and recurrent connections, clusters without fields."""
    rng = np.random.default_rng(seed)
    tied = seed % 2 == 0
    source = _random_text_input(rng, tied) if text else ImageInput(3, 8, 6)
    ids = rng.choice(30, size=rng.integers(1, 9), replace=False)
    clusters = tuple(
        Cluster(
            id=int(number),
            level=int(rng.integers(0, 4)),
            width=int(rng.integers(1, 7)),
            fields=_random_fields(rng, source),
        )
        for number in ids
    )
    density = rng.choice([0.0, 0.1, 0.3, 1.0])
    links = [Connection(int(t), int(s)) for t in ids for s in ids if rng.random() < density]
    activation = list(Activation)[rng.integers(len(Activation))]
    outputs = source.embedding if isinstance(source, TextInput) and source.tied else 5
    return Topology(source, int(rng.integers(1, 6)), outputs, activation, clusters, tuple(links))


def _random_text_input(rng: np.random.Generator, tied: bool) -> TextInput:
    plain = TextInput(40, 8, 12, tied)
    echoes = {_random_text_field(rng, plain) for _ in range(int(rng.integers(0, 4)))}
    return replace(plain, echoes=tuple(echoes), habits=7 * int(rng.integers(0, 2)))


def _random_fields(
    rng: np.random.Generator, source: TextInput | ImageInput
) -> tuple[Patch, ...] | tuple[TextField, ...]:
    count = int(rng.integers(0, 4))
    if isinstance(source, TextInput):
        return tuple(dict.fromkeys(_random_text_field(rng, source) for _ in range(count)))
    return tuple(dict.fromkeys(_random_patch(rng, source) for _ in range(count)))


def _random_text_field(rng: np.random.Generator, source: TextInput) -> TextField:
    if rng.random() < 0.25:
        return Recall(int(rng.integers(1, 4)), nth=int(rng.integers(1, 4)))
    start, stop = np.sort(rng.choice(source.window + 1, size=2, replace=False))
    return Interval(int(start), int(stop))


def _random_patch(rng: np.random.Generator, source: ImageInput) -> Patch:
    pool = int(rng.integers(1, 3))
    rows, columns = source.height // pool, source.width // pool
    top, left = int(rng.integers(rows)), int(rng.integers(columns))
    height = int(rng.integers(1, rows - top + 1))
    width = int(rng.integers(1, columns - left + 1))
    channels = rng.permutation(source.channels)[: rng.integers(1, source.channels + 1)]
    return Patch(tuple(int(c) for c in channels), top, left, height, width, pool)


def random_net(seed: int, text: bool) -> FrozenNet:
    return random_weights(random_topology(seed, text), seed)


def random_weights(topology: Topology, seed: int = 0) -> FrozenNet:
    """Weights of such a size that signals neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    d, o = topology.channel, topology.readouts
    clusters = {
        c.id: ClusterWeights(
            see_IH=_normal(rng, topology.inputs(c), c.width),
            bias_H=_normal(rng, c.width),
            hear_DH=_normal(rng, d, c.width),
            send_HD=_normal(rng, c.width, d),
            readout_HO=_normal(rng, c.width, o),
        )
        for c in topology.clusters
    }
    gates = {connection: float(rng.normal(1, 0.5)) for connection in topology.connections}
    return FrozenNet(topology, clusters, gates, _random_head(rng, topology))


def _random_head(rng: np.random.Generator, topology: Topology) -> ImageHead | TextHead:
    if isinstance(topology.input, TextInput):
        v, e, o = topology.input.vocab_size, topology.input.embedding, topology.outputs
        norms = [_normal(rng, size, at=at) for size in (e, o) for at in (1, 0)]
        output = None if topology.input.tied else _normal(rng, v, o)
        scale_in, bias_in, scale_out, bias_out = norms
        echoes = len(topology.input.echoes)
        salience = _normal(rng, v, echoes) if echoes else None
        embed = _normal(rng, v, e)
        head = TextHead(embed, scale_in, bias_in, scale_out, bias_out, output, salience)
        if not topology.input.habits:
            return head
        habits = _normal(rng, topology.input.habits, e)
        return replace(head, habit_PE=habits, habit_EO=_normal(rng, e, o))
    c = topology.input.channels
    mean, std = rng.uniform(0.4, 0.6, c), rng.uniform(0.2, 0.3, c)
    bias = _normal(rng, topology.outputs)
    return ImageHead(mean.astype(np.float32), std.astype(np.float32), bias)


def _normal(rng: np.random.Generator, *shape: int, at: float = 0) -> Array:
    """Around `at`; a matrix keeps the size of what it is multiplied with."""
    spread = 0.2 if len(shape) == 1 else 1 / math.sqrt(max(1, shape[0]))
    return np.asarray(rng.normal(at, spread, shape), np.float32)


def random_gpt2(seed: int, config: Gpt2Config | None = None) -> Gpt2Net:
    rng = np.random.default_rng(seed)
    config = config or Gpt2Config(vocab_size=50, context=16, width=32, heads=4, layers=2)
    tensors = {
        name: _normal(rng, *shape, at="ln" in name and name.endswith("weight"))
        for name, shape in config.shapes().items()
    }
    return Gpt2Net(config, tensors)


def tiny_tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES, vocab_size=300)


def tiny_image_topology() -> Topology:
    """Four quarters of a CIFAR-10 image, and a cluster that only hears and answers."""
    quarters = tuple(
        Cluster(number, 0, 8, (Patch((0, 1, 2), top, left, 16, 16),))
        for number, (top, left) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)])
    )
    links = [Connection(4, i) for i in range(4)] + [Connection(0, 4), Connection(4, 4)]
    clusters = (*quarters, Cluster(4, 1, 8))
    return Topology(ImageInput(3, 32, 32), 4, len(LABELS), Activation.GELU, clusters, tuple(links))


def tiny_text_topology(vocab_size: int) -> Topology:
    """Three clusters over a window of 16 tokens, with a feedback connection."""
    clusters = (
        Cluster(0, 0, 16, (Interval(0, 1), Interval(1, 2))),
        Cluster(1, 0, 16, (Interval(0, 1), Interval(2, 16))),
        Cluster(2, 1, 16, (Interval(0, 4),)),
    )
    links = (Connection(2, 0), Connection(2, 1), Connection(0, 2), Connection(1, 1))
    return Topology(TextInput(vocab_size, 16, 16), 8, 16, Activation.GELU, clusters, links)


def write_tiny_artifacts(root: Path, decode: tuple[int, ...] = ()) -> None:
    """Writes luminanet-cifar10, luminanet-tinystories and gpt2-tinystories as
    root/<name>/artifact, with random weights. `decode`: tokens a call; without, no server takes
    the texts."""
    for package in _tiny(decode):
        write(root / package.manifest.name / "artifact", package.manifest, package.files)


@cache
def _tiny(decode: tuple[int, ...]) -> tuple[Package, ...]:
    """Made once a process, and written as often as a test likes."""
    tokenizer = tiny_tokenizer()
    size = tokenizer.vocab_size
    text = tokenizer.to_json()
    nets: tuple[tuple[Net, Label], ...] = (
        (random_weights(tiny_image_topology()), Label("luminanet-cifar10", classes=LABELS)),
        (random_weights(tiny_text_topology(size)), Label("luminanet-tinystories", text)),
        (
            random_gpt2(0, Gpt2Config(vocab_size=size, context=32, width=16, heads=2)),
            Label("gpt2-tinystories", text),
        ),
    )
    return tuple(packed(net, label, decode=decode) for net, label in nets)


def write_artifact(
    out: Path,
    net: Net,
    label: Label,
    precisions: str = "fp32",
    tensorrt: bool = False,
    decode: tuple[int, ...] = (),
) -> None:
    """An artifact as freeze.py writes it, without a checkpoint; one graph for all batches."""
    package = packed(net, label, precisions, tensorrt, decode)
    write(out, package.manifest, package.files)


def packed(
    net: Net,
    label: Label,
    precisions: str = "fp32",
    tensorrt: bool = False,
    decode: tuple[int, ...] = (),
) -> Package:
    return pack(net, frozen(net, precisions, tensorrt, decode, "bus"), label)


def frozen(
    net: Net,
    precisions: str = "fp32",
    tensorrt: bool = False,
    decode: tuple[int, ...] = (),
    form: str = "auto",
) -> list[Frozen]:
    maker = Maker(net)
    request = Request(form, parse_precisions(precisions), tensorrt=tensorrt, decode=decode)
    return [maker.make(variant).graph for variant in variants(net, request)]
