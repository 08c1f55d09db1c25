"""Which GPU this machine has, asked of its driver alone: no other CUDA library is needed."""

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""Attribute numbers of the compute capability in the driver's interface."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU that CUDA shows; `capability` is its architecture, "9.0" on a Hopper."""

    name: str
    capability: str


def find_gpu(driver: str = DRIVER) -> Gpu | None:
    """None without a driver, with one that does not start, or without a GPU that it may use."""
    try:
        cuda = ctypes.CDLL(driver)
        refused = cuda.cuInit(0)
    except (OSError, AttributeError):  # no such library, or one that is no driver
        return None
    device, count = ctypes.c_int(), ctypes.c_int()
    if refused or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    name, numbers = ctypes.create_string_buffer(256), (ctypes.c_int(), ctypes.c_int())
    failed = [
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, len(name), device),
        *(
            cuda.cuDeviceGetAttribute(ctypes.byref(number), which, device)
            for number, which in zip(numbers, (MAJOR, MINOR), strict=True)
        ),
    ]
    if any(failed):
        return None
    major, minor = (number.value for number in numbers)
    return Gpu(name.value.decode(errors="replace"), f"{major}.{minor}")
