"""Properties are tried on the same examples every time, however busy the machine is. An interrupt
is heard, also where a shell started the tests in the background and so had it ignored. What was
imported and collected stays: the garbage collector does not go through it again and again."""

import gc
import signal

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.freeze()
