"""Arrays whose memory is taken where they are written, and can be given back.

A pool for many sequences is mostly empty. It lies in maps of its own, in huge pages as numpy's
large arrays do: in small ones attention over 32 caches was 8 to 17 % slower. Where the system has
no such maps (it is not Linux) they are usual arrays, and nothing is given back.
"""

import mmap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import prod

import numpy as np
from numpy.typing import NDArray

HUGE_PAGES, GIVE_BACK = (getattr(mmap, n, None) for n in ("MADV_HUGEPAGE", "MADV_DONTNEED"))
PAGE_BYTES = 2 << 20
"""Of a huge page on x86-64; what is smaller is not given back, so that none is split."""


class Pages:
    """float32 arrays of equal shapes [rows, ..] under names, all 0 at first."""

    def __init__(self, names: Iterable[str], shape: Sequence[int]) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = {}
        self._maps: list[mmap.mmap] = []
        self._row_bytes = 4 * prod(shape[1:])
        for name in names:
            if HUGE_PAGES is None or GIVE_BACK is None:
                self.arrays[name] = np.zeros(shape, np.float32)
                continue
            memory = mmap.mmap(
                -1, shape[0] * self._row_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            )
            with suppress(OSError):  # a kernel without huge pages
                memory.madvise(HUGE_PAGES)
            self.arrays[name] = np.frombuffer(memory, np.float32).reshape(shape)
            self._maps.append(memory)

    def give_back(self, first: int, end: int) -> None:
        """Rows first..end are not read before they are written again, and take no memory."""
        start = -(-first * self._row_bytes // PAGE_BYTES) * PAGE_BYTES
        size = end * self._row_bytes - start
        for memory in self._maps:
            if size > 0:
                assert GIVE_BACK is not None
                memory.madvise(GIVE_BACK, start, size)
