"""What a network takes in, and the fields of it that clusters see."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import MISSING, asdict, astuple, dataclass
from dataclasses import fields as attributes
from typing import Any, TypeGuard, TypeVar


@dataclass(frozen=True, slots=True, order=True)
class Patch:
    """A rectangle of pixels in some colour channels: one field of an image cluster. With `pool`, of
    the image after average pooling: a level of its pyramid, whose pixels are the means of squares
    of pool x pool; top, left, height and width count those."""

    channels: tuple[int, ...]
    top: int
    left: int
    height: int
    width: int
    pool: int = 1

    @property
    def size(self) -> int:
        return len(self.channels) * self.height * self.width

    @property
    def kernel(self) -> "Patch":
        """What it sees wherever it lies: shape and scale alone."""
        return Patch(tuple(range(len(self.channels))), 0, 0, self.height, self.width, self.pool)

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Top, left, height and width in the image."""
        own = (self.top, self.left, self.height, self.width)
        top, left, height, width = (self.pool * side for side in own)
        return top, left, height, width


class Lags(ABC):
    """A text field at lags that are known beforehand; lag 0 is the last token. One lag is that
    token's embedding; more are pooled: sum / sqrt(how many)."""

    __slots__ = ()

    @property
    @abstractmethod
    def lags(self) -> range:
        """Rising; not empty."""

    @property
    def reach(self) -> int:
        """How many of the newest tokens to look at."""
        return self.lags[-1] + 1

    @property
    @abstractmethod
    def name(self) -> str:
        """In a graph."""


@dataclass(frozen=True, slots=True, order=True)
class Interval(Lags):
    """The lags [start, stop) of a text window."""

    start: int
    stop: int

    @property
    def lags(self) -> range:
        return range(self.start, self.stop)

    @property
    def name(self) -> str:
        return f"lags{self.start}-{self.stop - 1}"

    def refuse(self, window: int) -> str | None:
        """Why no cluster sees it in a window of so many tokens, or None."""
        inside = 0 <= self.start < self.stop <= window
        return None if inside else f"not an interval inside the window of {window} lags"


@dataclass(frozen=True, slots=True, order=True)
class Recall:
    """The token that followed when the newest `order` tokens stood in the window before, the `nth`
    last time that they did, as its embedding; zeros if they did not so often."""

    order: int
    nth: int = 1

    def refuse(self, window: int) -> str | None:
        """Why no cluster sees it in a window of so many tokens, or None."""
        inside = 1 <= self.order < window and 1 <= self.nth < window
        return None if inside else f"no recall by 1 to {window - 1} tokens, 1 to {window - 1} times"


LagField = Interval
"""All kinds of Lags."""
TextField = LagField | Recall
"""A field at known lags, or of a token that is found by what the window holds."""
TEXT_FIELDS: tuple[type[TextField], ...] = (Interval, Recall)
"""In the order in which fields are sorted. Each is told from the others by its attributes."""
Kind = TypeVar("Kind", bound=TextField)
Field = Patch | TextField
View = tuple[Field, ...]
"""What is seen together, in the order in which it lies side by side."""


def view_of(fields: Iterable[Field]) -> View:
    """Distinct fields, pooled ones last."""
    return tuple(sorted(dict.fromkeys(fields), key=is_pooled))


def is_pooled(field: Field) -> TypeGuard[LagField]:
    """Whether it is a sum over lags, rather than the embedding of one token."""
    return isinstance(field, Lags) and len(field.lags) > 1


NEWEST: View = (Interval(0, 1),)


def order_of(field: TextField) -> tuple[int, tuple[int, ...]]:
    """A sorting key: by kind, and by what each kind tells."""
    return TEXT_FIELDS.index(type(field)), astuple(field)


def in_order(fields: Iterable[Kind]) -> list[Kind]:
    return sorted(fields, key=order_of)


@dataclass(frozen=True, slots=True)
class ImageInput:
    channels: int
    height: int
    width: int

    def inputs(self, field: Field) -> int:
        return field.size if isinstance(field, Patch) else 0

    def refuse(self, field: Field) -> str | None:
        """Why `field` cannot be seen by a cluster of this network, or None."""
        if not isinstance(field, Patch):
            return "an image cluster sees patches"
        if field.pool < 1 or self.height % field.pool or self.width % field.pool:
            sides = f"{self.height}x{self.width} pixels"
            return f"of means that do not tile {sides}: pool must be 1 or more and divide both"
        inside = (
            min(field.channels, default=-1) >= 0
            and max(field.channels, default=self.channels) < self.channels
            and len(set(field.channels)) == len(field.channels)
            and field.top >= 0
            and field.left >= 0
            and field.height > 0
            and field.width > 0
            and field.top + field.height <= self.height // field.pool
            and field.left + field.width <= self.width // field.pool
        )
        sides = f"{self.channels}x{self.height // field.pool}x{self.width // field.pool}"
        means = "" if field.pool == 1 else f" of {field.pool}x{field.pool} means"
        return None if inside else f"outside {sides} pixels{means}"


@dataclass(frozen=True, slots=True)
class TextInput:
    """A window of tokens. `tied`: the output layer is the embedding again, to which the last
    token's is added; otherwise it is a table of its own, as wide as `outputs`.

    `echoes` are fields that sound in the output as well: for every echo, all clusters together say
    by one number more how much of what it sees is added there (TextHead). `habits`: rows of a table
    of what tends to follow two tokens, learned by heart and added as well.
    """

    vocab_size: int
    embedding: int
    window: int
    tied: bool = True
    echoes: tuple[TextField, ...] = ()
    habits: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "echoes", tuple(in_order(self.echoes)))

    @property
    def echo_reach(self) -> int:
        """How many of the newest tokens echoes at known lags look at."""
        return max((field.reach for field in self.echoes if isinstance(field, Lags)), default=0)

    @property
    def echoed(self) -> int:
        """How many tokens echoes see: those, and one for each other echo."""
        return self.echo_reach + sum(not isinstance(field, Lags) for field in self.echoes)

    def inputs(self, field: Field) -> int:
        return 0 if isinstance(field, Patch) else self.embedding

    def refuse(self, field: Field) -> str | None:
        """Why `field` cannot be seen by a cluster of this network, or None."""
        if isinstance(field, Patch):
            return "a text cluster sees intervals of lags, or recalls"
        return field.refuse(self.window)


# ---------------------------------------------------------------------- storage


def stored(field: Field) -> dict[str, Any]:
    """Plain JSON types; `patch` and `text_field` read them back. Of a patch that is not pooled, as
    the first version wrote it."""
    raw = asdict(field)
    if isinstance(field, Patch) and field.pool == 1:
        del raw["pool"]
    return raw


def patch(raw: dict[str, Any]) -> Patch:
    """What `stored` made of it; raises TypeError otherwise."""
    return Patch(**{**raw, "channels": tuple(raw["channels"])})


def text_input(raw: dict[str, Any]) -> TextInput:
    """What `asdict` made of it; raises TypeError otherwise."""
    return TextInput(**{**raw, "echoes": tuple(map(text_field, raw.get("echoes", ())))})


def text_field(raw: dict[str, Any]) -> TextField:
    """What `asdict` made of it, with or without what has a default; raises TypeError otherwise."""
    for kind in TEXT_FIELDS:
        needed = {a.name for a in attributes(kind) if a.default is MISSING}
        if needed <= set(raw) <= {a.name for a in attributes(kind)}:
            return kind(**raw)
    raise TypeError(f"{raw} is no field of a text cluster")
