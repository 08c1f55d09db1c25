"""How soon a place in a queue comes free, from how many requests an engine ended of late."""

import math

RECENT_S = 30.0
"""Of time with work: what is so long ago counts 1/e."""


class Pace:
    """Requests ended by the time in which there were any, both with exponential decay; the time
    without work between them is passed over."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        """Since when there is work that is not counted yet."""
        self._worked_s = self._ended = 0.0

    def work_comes(self, now_s: float) -> None:
        if self._since_s is None:
            self._since_s = now_s

    def went_on(self, now_s: float, ended: int, more: bool) -> None:
        """So many requests ended since the last call; `more`: there is still work."""
        if self._since_s is not None:
            passed_s = now_s - self._since_s
            kept = math.exp(-passed_s / RECENT_S)
            self._worked_s = kept * self._worked_s + passed_s
            self._ended = kept * self._ended + ended
        self._since_s = now_s if more else None

    def wait_s(self, places: int) -> float:
        """Until so many requests have ended, as if the next one ended now: before the first one the
        rate is not known, but that it is not faster."""
        return places * self._worked_s / (self._ended + 1)
