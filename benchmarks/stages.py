"""`python -m benchmarks.stages FILE ..`: `python -m serving ..` with clocks in it.

At SIGUSR1 it writes to FILE, as JSON, what each stage took so far: how often it ran, seconds of its
thread's CPU, and of wall while it ran, both without the stages within it. A clock takes about two
microseconds, which are counted where they are taken.
"""

import inspect
import json
import signal
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from time import perf_counter, thread_time
from types import FrameType
from typing import Any

STAGES = {
    "HTTP in": ["serving.protocol:Connection.data_received"],
    "count, limit, route": ["serving.api.middleware:RequestMetrics.__call__"],
    "form": ["serving.api.forms:_Form.write"],
    "JSON in": ["serving.api.requests:parse", "serving.api.requests:known"],
    "endpoint": ["serving.api.middleware:Direct.__call__"],
    "HTTP out": ["uvicorn.protocols.http.h11_impl:RequestResponseCycle.send"],
    "write": ["serving.protocol:Joined._flush"],
    "deliver": ["serving.engines.engine:_deliver"],
    "picture": ["serving.engines.images:ImageEngine._try_read"],
    "network": [
        "serving.engines.images:ImageBatch.run",
        "serving.engines.sequences:_Rows.draw",
    ],
    "tokens to text": ["serving.engines.text:TextEngine._take"],
    "rest of the engine": [
        "serving.engines.images:ImageEngine._step",
        "serving.engines.text:TextEngine._step",
        "serving.engines.engine:Engine._hand_over",
    ],
}
"""What each is made of, as module:name."""


@dataclass(slots=True)
class Spent:
    """By a stage in a thread."""

    calls: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0


class Clocks:
    """One a thread that runs at a time: that of the innermost stage."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._all: list[dict[str, Spent]] = []

    def told(self) -> dict[str, list[float]]:
        """Calls and seconds, of all threads together."""
        found: dict[str, list[float]] = {}
        for spent in self._all:
            for name, one in [*spent.items()]:
                total = found.setdefault(name, [0, 0.0, 0.0])
                for place, value in enumerate((one.calls, one.cpu_s, one.wall_s)):
                    total[place] += value
        return found

    def hook(self, name: str, where: str) -> None:
        """Puts a clock around a function, or around each step of one that is async."""
        module, _, path = where.partition(":")
        owner: Any = import_module(module)
        *owners, last = path.split(".")
        for one in owners:
            owner = getattr(owner, one)
        setattr(owner, last, self._timed(name, getattr(owner, last)))

    def _timed(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(inner):

            @wraps(inner)
            async def steps(*args: Any, **options: Any) -> Any:
                self._mine(name).calls += 1
                return await _Steps(inner(*args, **options), partial(self._run, name))

            return steps

        @wraps(inner)
        def whole(*args: Any, **options: Any) -> Any:
            self._mine(name).calls += 1
            return self._run(name, partial(inner, *args, **options))

        return whole

    def _mine(self, name: str) -> Spent:
        if not hasattr(self._local, "spent"):
            self._local.spent, self._local.open = {}, []
            self._all.append(self._local.spent)
        spent: dict[str, Spent] = self._local.spent
        return spent.setdefault(name, Spent())

    def _run(self, name: str, step: Callable[[], Any]) -> Any:
        mine, open_ = self._mine(name), self._local.open
        begun = thread_time(), perf_counter()
        within = [0.0, 0.0]
        open_.append(within)
        try:
            return step()
        finally:
            open_.pop()
            cpu_s, wall_s = thread_time() - begun[0], perf_counter() - begun[1]
            mine.cpu_s += cpu_s - within[0]
            mine.wall_s += wall_s - within[1]
            if open_:
                open_[-1][0] += cpu_s
                open_[-1][1] += wall_s


class _Steps:
    """A coroutine, each step of which is run by `run`."""

    def __init__(self, inner: Any, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._inner, self._run = inner, run

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = partial(self._inner.send, None)
        try:
            while True:
                try:
                    asked = self._run(step)
                except StopIteration as end:
                    return end.value
                try:
                    step = partial(self._inner.send, (yield asked))
                except BaseException as error:
                    step = partial(self._inner.throw, error)
        finally:
            self._inner.close()


def main(file: Path, arguments: list[str]) -> int:
    from serving import __main__ as serving

    clocks = Clocks()
    for name, places in STAGES.items():
        for where in places:
            clocks.hook(name, where)

    def tell(_signal: int, _frame: FrameType | None) -> None:
        half = file.with_suffix(".half")
        half.write_text(json.dumps(clocks.told()), "utf-8")
        half.rename(file)

    signal.signal(signal.SIGUSR1, tell)
    return serving.main(arguments)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
