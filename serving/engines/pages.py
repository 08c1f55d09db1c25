"""Arrays whose memory is taken page by page, where they are written, and can be given back.

A pool for many sequences is mostly empty. numpy asks for huge pages for large arrays, of which the
first byte takes 2 MB, so these lie in a map of their own, in pages of a few kB. Where the system
has no such maps (it is not Linux) they are usual arrays, and nothing is given back.
"""

import mmap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import prod

import numpy as np
from numpy.typing import NDArray

NO_HUGE_PAGES, GIVE_BACK = (
    getattr(mmap, name, None) for name in ("MADV_NOHUGEPAGE", "MADV_DONTNEED")
)


class Pages:
    """float32 arrays of equal shapes [rows, ..] under names, all 0 at first."""

    def __init__(self, names: Iterable[str], shape: Sequence[int]) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = {}
        self._maps: list[mmap.mmap] = []
        self._row_bytes = 4 * prod(shape[1:])
        for name in names:
            if NO_HUGE_PAGES is None or GIVE_BACK is None:
                self.arrays[name] = np.zeros(shape, np.float32)
                continue
            memory = mmap.mmap(
                -1, shape[0] * self._row_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            )
            with suppress(OSError):  # a kernel without huge pages
                memory.madvise(NO_HUGE_PAGES)
            self.arrays[name] = np.frombuffer(memory, np.float32).reshape(shape)
            self._maps.append(memory)

    def give_back(self, first: int, end: int) -> None:
        """Rows first..end are not read before they are written again, and take no memory."""
        start = -(-first * self._row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        size = end * self._row_bytes - start
        for memory in self._maps:
            if size > 0:
                assert GIVE_BACK is not None
                memory.madvise(GIVE_BACK, start, size)
