"""What is sent: a shape of request (route, model, streamed or not) -> a call with a body.

A further route is a further row of SHAPES with its own `Write`, and where its answers are built
otherwise, a reader beside those of `answers`.
"""

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image

MAX_TOKENS = 64
TEMPERATURE = 0.8
PICTURES = 8
PICTURE_SIDE = 96
PROMPTS = (
    "Once upon a time",
    "Lily had a little dog. One day",
    "The sun was warm and the birds sang. Tom and his sister went to the park to",
    "Mum said it was time for bed, but Max was not tired. He wanted to hear one more story about a",
    "There was an old tree in the garden. Every morning a small bird came to sit on it and sing. "
    "One day the bird did not come. The tree was sad and asked the wind",
    "Anna found a shiny red ball under the bed. She showed it to her brother Ben. Ben wanted to "
    "play with it too, but Anna did not want to share. Their mother saw this and said that friends "
    "are more fun than balls. So Anna",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request: POST of `body` to `path`."""

    path: str
    body: bytes
    content_type: str


Write = Callable[[random.Random], Call]


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of request: `write` draws one of it."""

    name: str
    model: str
    streams: bool
    write: Write


def _generate(model: str, stream: bool) -> Write:
    def write(draw: random.Random) -> Call:
        body = {
            "prompt": draw.choice(PROMPTS),
            "max_tokens": MAX_TOKENS,
            "temperature": TEMPERATURE,
            "seed": draw.getrandbits(32),
            "model": model,
            "stream": stream,
        }
        return Call("/generate", json.dumps(body).encode(), "application/json")

    return write


def _classify(draw: random.Random) -> Call:
    return Call("/classify", *_form(picture(draw.randrange(PICTURES))))


@cache
def picture(number: int) -> bytes:
    """A PNG of a smooth pattern."""
    draw = random.Random(number)
    small = Image.frombytes("RGB", (6, 6), draw.randbytes(6 * 6 * 3))
    file = io.BytesIO()
    small.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def _form(picture: bytes) -> tuple[bytes, str]:
    """A multipart form with one file, and its media type."""
    mark = b"a-part-of-a-load-test"
    head = b'Content-Disposition: form-data; name="file"; filename="picture.png"'
    body = b"--%b\r\n%b\r\nContent-Type: image/png\r\n\r\n%b\r\n--%b--\r\n"
    return body % (mark, head, picture, mark), f"multipart/form-data; boundary={mark.decode()}"


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("luminanet stream", "luminanet", True, _generate("luminanet", True)),
        Shape("luminanet whole", "luminanet", False, _generate("luminanet", False)),
        Shape("luminanet classify", "luminanet", False, _classify),
        Shape("gpt2 stream", "gpt2", True, _generate("gpt2", True)),
        Shape("gpt2 whole", "gpt2", False, _generate("gpt2", False)),
    )
}
"""Name -> shape: "MODEL KIND"."""

STREAMS = (("luminanet stream",), ("gpt2 stream",))
"""What a sweep compares."""


def shape_of(name: str) -> Shape:
    """Raises ValueError with the names there are."""
    if name not in SHAPES:
        raise ValueError(f"there is no shape {name!r}: take {', '.join(SHAPES)}")
    return SHAPES[name]


def call(name: str, draw: int) -> Call:
    """The request of a shape that a number draws. Raises ValueError for an unknown shape."""
    return shape_of(name).write(random.Random(draw))
