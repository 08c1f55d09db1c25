"""A disk that is full and folders that are closed, on any Linux and whoever runs the tests."""

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

CAPABILITIES_3 = 0x20080522
OVERRIDES = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root into every file."""


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process gets longer than so many bytes; a longer one raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def as_anyone() -> Iterator[None]:
    """The rights of files hold for this thread, even when it is root's."""
    if os.geteuid():
        yield
        return
    before = _capabilities()
    _set_capabilities([before[0] & ~OVERRIDES, *before[1:]])
    try:
        yield
    finally:
        _set_capabilities(before)


def _capabilities() -> list[int]:
    found = (ctypes.c_uint32 * 6)()
    assert not _libc().capget(_header(), found)
    return list(found)


def _set_capabilities(wanted: list[int]) -> None:
    assert not _libc().capset(_header(), (ctypes.c_uint32 * 6)(*wanted))


def _header() -> "ctypes.Array[ctypes.c_uint32]":
    return (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
