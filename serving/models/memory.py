"""A ceiling over what loading and the first runs of a network may take.

A graph of a few bytes can ask for terabytes, as soon as it is optimised or run. Under the ceiling
such an allocation fails, which onnxruntime and Python turn into an exception, and the process
lives on. Linux only: elsewhere there is no ceiling.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPARE_BYTES = 2 << 30
GRAPH_COPIES = 16
"""Parsing, optimising and packing hold several copies of the weights for a moment."""
THREAD_BYTES = 32 << 20
DATA_PAGES = 5
"""The field of /proc/self/statm that counts private writable memory."""


def allowance(graph_bytes: int, threads: int, state_bytes: int = 0) -> int:
    """What a network of this size may take, generously."""
    return SPARE_BYTES + GRAPH_COPIES * graph_bytes + threads * THREAD_BYTES + 2 * state_bytes


@contextmanager
def ceiling(more_bytes: int) -> Iterator[None]:
    """Within it, this process can take `more_bytes` at most. Not for two threads at a time."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[DATA_PAGES])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = pages * resource.getpagesize() + more_bytes
    known = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
