"""What processes take while they are watched: CPU and memory, from outside."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import psutil

EVERY_S = 0.1


@dataclass
class Usage:
    """Readings of one process: seconds of the monotonic clock, CPU seconds so far, bytes."""

    times_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)

    def cores(self, begin_s: float, end_s: float) -> float:
        """CPU seconds per second between two times."""
        begin, end = np.interp([begin_s, end_s], self.times_s, self.cpu_s)
        return float(end - begin) / (end_s - begin_s)

    def peak_bytes(self, begin_s: float, end_s: float) -> int:
        """The largest resident set between two times; the nearest reading where none is."""
        inside = [
            size
            for at_s, size in zip(self.times_s, self.rss_bytes, strict=True)
            if begin_s - EVERY_S <= at_s <= end_s + EVERY_S
        ]
        return max(inside or self.rss_bytes)


class Watch:
    """Reads processes by name until the `with` block ends; one that ends earlier is left out from
    then on."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self.usage = {name: Usage() for name in processes}
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while True:
            for name, process in list(self._processes.items()):
                try:
                    with process.oneshot():
                        cpu, memory = process.cpu_times(), process.memory_info()
                except psutil.NoSuchProcess:
                    del self._processes[name]
                    continue
                usage = self.usage[name]
                usage.times_s.append(time.monotonic())
                usage.cpu_s.append(cpu.user + cpu.system)
                usage.rss_bytes.append(memory.rss)
            if self._over.wait(EVERY_S):
                return
