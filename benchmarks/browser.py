"""The Chromium of this machine, driven by Playwright: a browser is not among our packages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from luminanet.errors import DataError

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
MISSING = "no Chromium on this machine: apt-get install chromium"


def installed() -> str | None:
    """The path of the first one found."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window. Raises DataError when there is none."""
    path = installed()
    if path is None:
        raise DataError(MISSING)
    with sync_playwright() as playwright:
        # in a container there is no sandbox for root, and /dev/shm is small
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        launched = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield launched
        finally:
            launched.close()
