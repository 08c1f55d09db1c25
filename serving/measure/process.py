"""What Linux says of a process: its memory now, its peaks, and what it takes of a GPU."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

from luminanet.errors import ConfigError

EVERY_S = 0.02
KIB = 1024


def uss(pid: int | str = "self") -> int:
    """Bytes that would be free if the process ended: its pages that nobody else has. Raises
    ConfigError where there is no /proc that tells it, and ProcessLookupError when it has ended."""
    text = _read(pid, "smaps_rollup")
    return KIB * sum(_field(text, name) for name in ("Private_Clean", "Private_Dirty"))


def peak_rss(pid: int | str = "self") -> int:
    """The most bytes that it ever had in memory, shared pages included."""
    return KIB * _field(_read(pid, "status"), "VmHWM")


def gpu_bytes(pid: int) -> int | None:
    """What it takes of all NVIDIA GPUs together; None without a GPU or without NVML's bindings."""
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        devices = [pynvml.nvmlDeviceGetHandleByIndex(k) for k in range(pynvml.nvmlDeviceGetCount())]
        found = [
            process.usedGpuMemory
            for device in devices
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device)
            if process.pid == pid and process.usedGpuMemory is not None
        ]
    finally:
        pynvml.nvmlShutdown()
    return sum(found) if found else None


class Samples:
    """USS of a process over time: (seconds, bytes)."""

    def __init__(self) -> None:
        self.all: list[tuple[float, int]] = []

    def since(self, begun_s: float) -> list[int]:
        return [size for at_s, size in self.all if at_s >= begun_s]

    @property
    def peak(self) -> int:
        return max(size for _, size in self.all)


@contextmanager
def sampled(pid: int) -> Iterator[Samples]:
    """Within it, a thread notes the USS of a process every EVERY_S, as long as it lives."""
    samples, ended = Samples(), Event()

    def sample() -> None:
        while not ended.wait(EVERY_S):
            try:
                samples.all.append((perf_counter(), uss(pid)))
            except ProcessLookupError:
                return

    thread = Thread(target=sample, name="samples", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _read(pid: int | str, name: str) -> str:
    path = Path("/proc") / str(pid) / name
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        if path.parent.exists() or pid == "self":
            raise ConfigError(
                f"there is no {path}: memory is measured where Linux tells it"
            ) from error
        raise ProcessLookupError(f"process {pid} has ended") from error


def _field(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:  # of a process that has ended and waits to be noticed
        raise ProcessLookupError(f"no {name} is told of the process")
    return int(found[1])
