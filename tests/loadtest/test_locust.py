"""Locust against a real server. It runs in processes of its own: gevent patches what it is in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import pause
from benchmarks.load.drive import NoReportError, locust
from benchmarks.load.figures import quantiles
from loadtest.workload import SHAPES
from serving.measure.servers import Server, served

ROOT = Path(__file__).parent.parent.parent
PATIENT = ("--max-lag", "30", "-u", "60", "-r", "60")
"""A busy machine is no failure of what is tested."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The shipped networks: tiny ones have no room for the prompts."""
    flags = ["--artifacts", str(ROOT / "pretrained"), "--threads", "1"]
    with served(flags, os.environ) as server:
        yield server


def run(server: Server, *options: str) -> list[str]:
    """The names of the shapes that were answered, none with an error."""
    driven = locust(server.url, server.pid, options)
    assert not {sample.error for sample in driven.recording.samples} - {""}
    return [sample.shape for sample in driven.recording.samples]


def test_an_open_loop_sends_every_shape_at_its_times(server: Server) -> None:
    shapes = ",".join(SHAPES)
    options = ("--shapes", shapes, "--rates", "8,12", "--step-seconds", "2")
    driven = locust(server.url, server.pid, [*PATIENT, *options])
    samples = driven.recording.samples
    assert {sample.shape for sample in samples} == set(SHAPES)
    assert {sample.step for sample in samples} == {0, 1}
    assert not {sample.error for sample in samples} - {""}
    assert all(sample.lag_s >= 0 for sample in samples)
    streams = [sample for sample in samples if SHAPES[sample.shape].streams]
    assert all(sample.ttft_s is not None and sample.tokens for sample in streams)
    assert driven.usage["server"].peak_bytes(*driven.recording.spans_s[0]) > 1e6


def test_a_closed_loop_ends_after_its_requests(server: Server) -> None:
    shapes = run(server, "LuminaNet", "GPT2", "-u", "4", "-r", "4", "--requests", "40")
    assert len(shapes) >= 40
    assert {shape.split()[0] for shape in shapes} == {"luminanet", "gpt2"}


def test_a_pool_of_one_user_refuses_to_report(server: Server) -> None:
    with pytest.raises(NoReportError, match="ended with 3: the pool is empty"):
        locust(server.url, server.pid, ["-u", "1", "--rates", "50", "--max-lag", "30"])


def test_a_schedule_that_lags_refuses_to_report(server: Server) -> None:
    with pytest.raises(NoReportError, match="locust ended with 3: the schedule lags"):
        locust(server.url, server.pid, ["-u", "4", "--rates", "50", "--max-lag", "1e-7"])


def test_an_unknown_shape_is_refused_in_one_line(server: Server) -> None:
    with pytest.raises(NoReportError, match="there is no shape 'gpt3 stream': take "):
        locust(server.url, server.pid, ["--shapes", "gpt3 stream", "--rates", "5"])


def test_a_pause_of_the_server_shows_in_the_open_loop_and_not_in_the_closed_one(
    server: Server,
) -> None:
    shown = pause.show(server)
    opened = quantiles([sample.latency_s for sample in shown.open])
    closed = quantiles([sample.service_s for sample in shown.closed])
    assert opened[2] > 0.75 * pause.PAUSE_S
    assert closed[2] < 0.5 * opened[2]
    assert closed[3] > 0.9 * pause.PAUSE_S  # the one request that met it


def test_importing_the_pure_half_patches_nothing() -> None:
    code = (
        "import sys, benchmarks.load.__main__, benchmarks.load.pause, loadtest.samples\n"
        "print([name for name in ('gevent', 'locust') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.stdout.strip() == "[]", done.stderr
