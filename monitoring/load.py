"""Bounded load of all kinds for a server of this machine: every panel has something to show.

It is no benchmark: clients wait for their answers, and nothing is measured here.
"""

import base64
import io
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from PIL import Image

PROMPTS = ("Once upon a time", "Lily went to the park", "The little dog was sad", "One day Tom")
PAUSE_S = 0.2
"""Between two requests of a client, in the mean."""
ACTIVE_S, REST_S = 1.0, 2.0
"""All clients ask, then none does, as shadow traffic waits for rest."""
LONGEST = 48
BURST_CLIENTS = 24


@contextmanager
def load(url: str, clients: int, seconds: float, seed: int = 0) -> Iterator[None]:
    """So many clients ask while the block runs, but no longer than `seconds`."""
    stop = threading.Event()
    begin_s = time.monotonic()
    threads = [
        threading.Thread(
            target=_client, args=(url, random.Random(seed + k), stop, begin_s, begin_s + seconds)
        )
        for k in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def burst(url: str, clients: int = BURST_CLIENTS) -> None:
    """So many texts of each model at once: more than a small queue holds."""

    def ask(model: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            client.post("/generate", json={"prompt": "Once", "max_tokens": 64, "model": model})

    models = ("luminanet", "gpt2") * clients
    threads = [threading.Thread(target=ask, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _client(
    url: str, draw: random.Random, stop: threading.Event, begin_s: float, end_s: float
) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.wait(draw.expovariate(1 / PAUSE_S)) and time.monotonic() < end_s:
            phase_s = (time.monotonic() - begin_s) % (ACTIVE_S + REST_S)
            if phase_s > ACTIVE_S and stop.wait(ACTIVE_S + REST_S - phase_s):
                return
            _ask(client, draw)


def _ask(client: httpx.Client, draw: random.Random) -> None:
    kind = draw.choices(("text", "picture", "wrong", "nowhere"), (80, 14, 4, 2))[0]
    if kind == "text":
        body = {
            "prompt": draw.choice(PROMPTS),
            "max_tokens": draw.randint(8, LONGEST),
            "seed": draw.randrange(1000),
            "stream": draw.random() < 0.7,
            "model": draw.choices(("luminanet", "gpt2"), (60, 40))[0],
        }
        client.post("/generate", json=body)
    elif kind == "picture":
        client.post("/classify", json={"image": _picture(draw)})
    elif kind == "wrong":
        client.post("/generate", json={"prompt": ""})
    else:
        client.get("/nowhere")


def _picture(draw: random.Random) -> str:
    file = io.BytesIO()
    colour = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
