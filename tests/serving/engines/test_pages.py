"""Memory of a pool of rows: all 0 at first, and what is given back does not touch other rows."""

import mmap
from pathlib import Path

import pytest

from serving.engines import pages
from serving.engines.pages import Pages

SHAPE = (5, 3, pages.PAGE_BYTES // 4)
"""Rows of three huge pages."""
STATM = Path("/proc/self/statm")


@pytest.mark.parametrize("has_maps", [True, False])
def test_rows_that_are_kept_lose_nothing(monkeypatch: pytest.MonkeyPatch, has_maps: bool) -> None:
    if not has_maps:
        monkeypatch.setattr(pages, "GIVE_BACK", None)
    pool = Pages(("keys", "values"), SHAPE)
    for array in pool.arrays.values():
        assert array.shape == SHAPE
        assert not array.any()
        array[:] = 7
    pool.give_back(2, 4)
    for array in pool.arrays.values():
        assert (array[[0, 1, 4]] == 7).all()
        array[2:4] = 1  # they can be used again
        assert (array[2:4] == 1).all()


def test_rows_that_share_a_page_with_others_are_kept() -> None:
    pool = Pages(("keys",), (4, 3))
    pool.arrays["keys"][:] = 7
    pool.give_back(2, 4)
    assert (pool.arrays["keys"] == 7).all()


@pytest.mark.skipif(not STATM.exists() or pages.GIVE_BACK is None, reason="Linux alone")
def test_only_what_is_written_takes_memory_and_it_can_be_given_back() -> None:
    def resident() -> int:
        return int(STATM.read_text().split()[1]) * mmap.PAGESIZE

    row_bytes = 64 << 20
    pool = Pages(("keys",), (2, row_bytes // 4))
    row_V, before = pool.arrays["keys"][1], resident()
    row_V[0] = 1
    assert resident() - before < row_bytes // 4
    row_V[:] = 1
    assert resident() - before > row_bytes // 2
    pool.give_back(1, 2)
    assert resident() - before < row_bytes // 4
