"""Properties are tried on the same examples every time, however busy the machine is. An interrupt
is heard, also where a shell started the tests in the background and so had it ignored. What was
imported and collected stays: the garbage collector does not go through it again and again."""

import gc
import signal
from collections.abc import Iterator
from functools import partialmethod

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Graphs of tests are so small that a second thread would only spin, on another test's core."""
    from export.graph.session import Session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "__init__", partialmethod(Session.__init__, threads=1))
        yield
