"""Clocks at the stages of a server, and the page of what they show."""

import asyncio
import time
from argparse import Namespace
from importlib import import_module

import pytest

from benchmarks import serving, stages
from benchmarks.peers.wrk import Driven


def work(seconds: float) -> None:
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        pass


def inner() -> None:
    work(0.03)


def outer() -> None:
    inner()
    work(0.01)


async def answer() -> str:
    inner()
    await asyncio.sleep(0.05)
    work(0.01)
    return "answered"


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("on its way")


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> stages.Clocks:
    made, here = stages.Clocks(), import_module(__name__)
    for name in "inner", "outer", "answer", "fails":
        monkeypatch.setattr(here, name, getattr(here, name))  # put back in the end
        made.hook(name, f"{__name__}:{name}")
    return made


def test_a_stage_is_told_without_those_within_it(clocks: stages.Clocks) -> None:
    outer()
    told = clocks.told()
    assert {name: one[0] for name, one in told.items()} == {"outer": 1, "inner": 1}
    assert told["outer"][1] < told["inner"][1], "a third of it"
    assert told["outer"][1] > 0.009


def test_of_what_is_async_its_steps_count_and_not_its_waiting(clocks: stages.Clocks) -> None:
    async def both() -> tuple[str, str]:
        return await asyncio.gather(answer(), answer())

    assert [*asyncio.run(both())] == ["answered"] * 2
    told = clocks.told()
    assert (told["answer"][0], told["inner"][0]) == (2, 2)
    assert 0.019 < told["answer"][1] < told["inner"][1]
    with pytest.raises(ValueError, match="on its way"):
        asyncio.run(fails())


@pytest.mark.parametrize("where", [where for places in stages.STAGES.values() for where in places])
def test_every_stage_is_there(where: str) -> None:
    module, _, path = where.partition(":")
    owner = import_module(module)
    for name in path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)


def test_the_page_tells_what_no_clock_has() -> None:
    driven = Driven(100, 1.0, 0.01, 0.02, 0)
    found = dict.fromkeys(stages.STAGES, (0, 0.0, 0.0)) | {"network": (25, 0.06, 0.08)}
    clocked, plain = serving.Run(driven, 0.1, found), serving.Run(driven, 0.09, {})
    told = serving.page(
        {"/classify": serving.Profile(clocked, plain)}, Namespace(connections=32, seconds=1.0)
    )
    assert "| network | 0.25 | 600 | 800 | 60% |" in told
    assert "| under no clock |  | 400 |  | 40% |" in told
    assert "1000 us of CPU a request at 100 requests/s; without clocks 900 us" in told
