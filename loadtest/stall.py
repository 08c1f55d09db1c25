"""A server that stops for a while, on purpose: what a measurement must not hide."""

import os
import signal
from dataclasses import dataclass

import gevent


@dataclass(frozen=True, slots=True)
class Stall:
    """Stops process `pid` for `seconds`, `after_s` from when it is begun."""

    pid: int
    after_s: float
    seconds: float

    def begin(self) -> None:
        """Returns at once."""
        gevent.spawn(self._stop)

    def _stop(self) -> None:
        gevent.sleep(self.after_s)
        os.kill(self.pid, signal.SIGSTOP)
        try:
            gevent.sleep(self.seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)
