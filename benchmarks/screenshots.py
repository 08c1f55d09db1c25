"""`python -m benchmarks.screenshots [ARTIFACTS]`: the page at / in use, into docs/page/*.png.

Serves the artifacts, asks so often that the advantage is known, and takes the page in two widths,
light and dark, with a story of either model and a picture that is drawn here.
"""

import argparse
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Literal
from urllib.request import Request, urlopen

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page

from benchmarks.browser import browser
from luminanet.errors import DataError, LuminaNetError
from serving.measure.servers import served

FOLDER = Path(__file__).parent.parent / "docs" / "page"
PROMPT = "Once upon a time, there was a little girl named Lily. She found a"
WIDTHS = {1400: 1000, 390: 844}
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
PAIRS = 20
TRIES = 200
PAUSE_S = 0.6
"""For the server to compute a text again with both networks."""
FIGURES_MS = 5000
"""After which the page has read the figures once more (serving/page/figures.js)."""
MOST_BYTES = 150_000
WRITTEN = "[id^=end-]:has-text('tokens')"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("artifacts", nargs="?", type=Path, default=Path("pretrained"))
    arguments = parser.parse_args(argv)
    try:
        with served([f"--artifacts={arguments.artifacts}", "--shadow=1"]) as server:
            _fill(server.url)
            with browser() as chromium:
                _take(chromium, server.url)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _fill(url: str) -> None:
    """Asks for texts, with pauses in which they are computed again, until there are enough pairs.
    Raises DataError when they do not come."""
    headers = {"content-type": "application/json"}
    for seed in range(TRIES):
        body = {"prompt": PROMPT, "max_tokens": 24, "seed": seed}
        urlopen(Request(f"{url}/generate", json.dumps(body).encode(), headers)).read()
        sleep(PAUSE_S)
        told = urlopen(f"{url}/metrics").read().decode()
        found = re.search(r"^luminanet_throughput_samples (\S+)", told, re.MULTILINE)
        if found and float(found[1]) >= PAIRS:
            return
    raise DataError("the server computes no texts again: is the machine too busy?")


def _take(chromium: Browser, url: str) -> None:
    for width, height in WIDTHS.items():
        for scheme in SCHEMES:
            page = chromium.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            page.goto(url)
            _use(page)
            _save(page, f"{width}-{scheme}")
            page.goto(f"{url}/page/topology.html")
            page.locator("svg.network").first.wait_for()
            _save(page, f"networks-{width}-{scheme}")
            page.close()


def _use(page: Page) -> None:
    page.get_by_label("How does the story begin?").fill(PROMPT)
    page.get_by_label("Seed").fill("4")
    page.get_by_label("One after the other").check()
    page.get_by_role("button", name="Write").click()
    for written in page.locator(WRITTEN).all():
        written.wait_for()
    page.locator(WRITTEN).nth(1).wait_for()
    file = {"name": "ship.png", "mimeType": "image/png", "buffer": ship()}
    page.get_by_label("Choose a file", exact=True).set_input_files(file)  # type: ignore[arg-type]
    page.locator("#bars").wait_for()
    page.locator("#advantage strong").first.wait_for()
    page.wait_for_timeout(FIGURES_MS)
    page.evaluate("document.activeElement.blur()")


def ship() -> bytes:
    """A picture of our own: a ship on the sea."""
    image = Image.new("RGB", (256, 256), (168, 200, 228))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 160, 256, 256), fill=(38, 78, 112))
    pen.polygon([(24, 140), (232, 140), (204, 186), (56, 186)], fill=(92, 40, 34))
    pen.rectangle((84, 104, 176, 140), fill=(236, 236, 230))
    pen.rectangle((112, 66, 134, 104), fill=(180, 52, 42))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _save(page: Page, name: str) -> None:
    """Few colours make a small file, and look the same."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    taken = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    file = FOLDER / f"{name}.png"
    for colours in (256, 128, 64, 32, 16):
        few = taken.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            return


if __name__ == "__main__":
    sys.exit(main())
