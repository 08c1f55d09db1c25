"""The topologies that runs start from; evolution changes them from there."""

from collections.abc import Sequence
from dataclasses import replace

from luminanet.fields import ImageInput, Interval, Patch, Recall, TextInput
from luminanet.topology import Activation, Cluster, Connection, Topology


def _grid(size: int, step: int, channels: tuple[int, ...], pool: int = 1) -> list[Patch]:
    spots = range(0, 32 // pool + 1 - size, step)
    return [Patch(channels, top, left, size, size, pool) for top in spots for left in spots]


def _image(patches_by_level: list[list[Patch]], width: int, channel: int) -> Topology:
    """One unconnected cluster per patch, `patches_by_level[k]` on level k."""
    placed = [(level, p) for level, patches in enumerate(patches_by_level) for p in patches]
    return Topology(
        input=ImageInput(3, 32, 32),
        channel=channel,
        outputs=10,
        activation=Activation.GELU,
        clusters=tuple(Cluster(i, level, width, (p,)) for i, (level, p) in enumerate(placed)),
    )


def paper_image(width: int, channel: int, _vocab_size: int) -> Topology:
    """The paper's input layer: channel-wise 16x16 patches, 4 x 3 = 12 clusters."""
    return _image([[p for c in range(3) for p in _grid(16, 16, (c,))]], width, channel)


def fine_image(width: int, channel: int, _vocab_size: int) -> Topology:
    """16 clusters, each sees one 8x8 patch in colour."""
    return _image([_grid(8, 8, (0, 1, 2))], width, channel)


def dense_image(width: int, channel: int, _vocab_size: int) -> Topology:
    """Dense from the start: 24 clusters on two levels of 8x8 patches, each hears all."""
    patches = _grid(8, 8, (0, 1, 2))
    return _all_to_all(_image([patches, patches[::2]], width, channel))


def _all_to_all(seed: Topology) -> Topology:
    ids = [c.id for c in seed.clusters]
    return seed.having(seed.clusters, [Connection(source=s, target=t) for s in ids for t in ids])


def scales_image(width: int, channel: int, _vocab_size: int) -> Topology:
    """An image pyramid, 24 clusters on 8x8 pixels in colour: 8 see windows of the image (the black
    fields of a chessboard), 8 windows of its 2x2 means (3x3 that overlap, without the middle one),
    and above them 8 the whole image, as 4x4 means."""
    colour = (0, 1, 2)
    windows = [p for p in _grid(8, 8, colour) if (p.top + p.left) % 16 == 0]
    halves = [p for p in _grid(8, 4, colour, pool=2) if (p.top, p.left) != (4, 4)]
    return _image([windows + halves, _grid(8, 8, colour, pool=4) * 8], width, channel)


def scales_dense_image(width: int, channel: int, vocab_size: int) -> Topology:
    """`scales_image`, dense from the start: each cluster hears all."""
    return _all_to_all(scales_image(width, channel, vocab_size))


def overproduced_image(width: int, channel: int, _vocab_size: int) -> Topology:
    """All to choose from: a cluster for each of 75 places on 8x8 pixels in colour, 49 of the image,
    25 of its 2x2 means and one of its 4x4 means, every third on the second level; unconnected.
    """
    colour = (0, 1, 2)
    every = [p for pool, step in ((1, 4), (2, 2), (4, 1)) for p in _grid(8, step, colour, pool)]
    upper = every[2::3]
    return _image([[p for p in every if p not in upper], upper], width, channel)


Lags = tuple[tuple[int, int], ...]
"""(start, stop) of every interval that a cluster sees."""
# Each cluster also sees the last token.
LAGS = (
    ((0, 1), (1, 2)),
    ((0, 1), (1, 2), (2, 3)),
    ((0, 1), (2, 3), (3, 4)),
    ((0, 1), (4, 5), (5, 6)),
    ((0, 1), (6, 8), (8, 12)),
    ((0, 1), (12, 16), (16, 24)),
    ((0, 1), (24, 40), (40, 64)),
    ((0, 1), (0, 16), (0, 128)),
)


def _text(lags_by_cluster: Sequence[Lags], shape: TextInput, width: int, channel: int) -> Topology:
    """Unconnected clusters on two levels."""
    lower = len(lags_by_cluster) // 2
    return Topology(
        input=shape,
        channel=channel,
        outputs=128,
        activation=Activation.GELU,
        clusters=tuple(
            Cluster(i, i // lower, width, tuple(Interval(*lag) for lag in lags))
            for i, lags in enumerate(lags_by_cluster)
        ),
    )


def lags_text(width: int, channel: int, vocab_size: int) -> Topology:
    """Eight clusters on near and far lags, two levels of four, connected by evolution."""
    return _text(LAGS, TextInput(vocab_size, embedding=128, window=128), width, channel)


def bus_text(width: int, channel: int, vocab_size: int) -> Topology:
    """`lags_text` with each level hearing all of the other from the start."""
    return _buses(lags_text(width, channel, vocab_size))


def _buses(seed: Topology) -> Topology:
    levels = [(c.id, c.level) for c in seed.clusters]
    links = [Connection(source=s, target=t) for s, a in levels for t, b in levels if a != b]
    return seed.having(seed.clusters, links)


# A handful of clusters that see the last token and one coarse interval each; what is behind them
# is for evolution to refine.
FEW = ((1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 128), (0, 128))


def _untied(vocab_size: int) -> TextInput:
    """Tokens are seen through a narrow embedding and predicted from a wide one: half the work of
    seeing, and a better network than one embedding for both (DECISIONS.md)."""
    return TextInput(vocab_size, embedding=64, window=128, tied=False)


def lean_text(width: int, channel: int, vocab_size: int) -> Topology:
    """The clusters of `lags_text`, with an output layer of their own."""
    return _text(LAGS, _untied(vocab_size), width, channel)


# What each level sees: clusters that see the same share one product when they are served.
RECALLS = (Recall(1), Recall(2))
NEWEST = (Interval(0, 1), Interval(1, 2), Interval(2, 3), *RECALLS)
BEFORE = ((0, 1), (3, 4), (4, 5), (5, 7), (7, 11), (11, 19), (19, 35))
# What is said again: the newest words, the last sentences, and what is recalled.
ECHOES = (Interval(0, 16), Interval(0, 64), *RECALLS)
HABITS = 16_381
"""A prime, so that pairs of tokens spread over all rows."""
PREDICTED = 256
"""Width of what the output layer reads: a wide one is worth more than wide clusters."""


def echo_text(width: int, channel: int, vocab_size: int) -> Topology:
    """Four clusters that see the newest lags and what is recalled, above them four that see what
    was before; unconnected. What lies farther back sounds in echoes; what tends to follow two
    tokens is a habit."""
    shape = TextInput(vocab_size, 64, 128, tied=False, echoes=ECHOES, habits=HABITS)
    seed = _text([BEFORE] * 8, shape, width, channel)
    clusters = [replace(c, fields=c.fields if c.level else NEWEST) for c in seed.clusters]
    return replace(seed, outputs=PREDICTED, clusters=tuple(clusters))


# What a GPT-2 knew better: how sentences begin, names, and words said long ago
# (benchmarks/tinystories/classes.md).
AGAIN = Recall(1, nth=2)
WHOLE = (*ECHOES, Interval(0, 128), AGAIN)


def recall_text(width: int, channel: int, vocab_size: int) -> Topology:
    """`echo_text` that also recalls what followed the newest token the time before the last, and
    echoes the whole window."""
    seed = echo_text(width, channel, vocab_size)
    assert isinstance(seed.input, TextInput)
    clusters = [c if c.level else replace(c, fields=(*NEWEST, AGAIN)) for c in seed.clusters]
    return replace(seed, input=replace(seed.input, echoes=WHOLE), clusters=tuple(clusters))


def echo_bus_text(width: int, channel: int, vocab_size: int) -> Topology:
    """`echo_text` with each level hearing all of the other from the start."""
    return _buses(echo_text(width, channel, vocab_size))


def few_text(width: int, channel: int, vocab_size: int) -> Topology:
    """Eight clusters on doubling intervals, two levels of four, unconnected."""
    fields = [tuple(sorted(((0, 1), lags))) for lags in FEW]
    return _text(fields, _untied(vocab_size), width, channel)


IMAGE_SEEDINGS = {
    "paper": paper_image,
    "fine": fine_image,
    "dense": dense_image,
    "scales": scales_image,
    "scales-dense": scales_dense_image,
    "overproduced": overproduced_image,
}
TEXT_SEEDINGS = {
    "lags": lags_text,
    "bus": bus_text,
    "lean": lean_text,
    "few": few_text,
    "echo": echo_text,
    "echo-bus": echo_bus_text,
    "recall": recall_text,
}
SEEDINGS = IMAGE_SEEDINGS | TEXT_SEEDINGS
