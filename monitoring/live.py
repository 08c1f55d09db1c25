"""A Prometheus with the shipped configuration in a process of its own, and what it answers."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from luminanet.errors import MissingExtraError

SHIPPED = Path(__file__).parent / "prometheus"
PROGRAM = "prometheus"
START_S = 120.0
STOP_S = 60.0


class MissingPrometheusError(MissingExtraError):
    """The program is not on the path."""

    def __init__(self) -> None:
        Exception.__init__(
            self, "there is no prometheus: apt-get install --no-install-recommends prometheus"
        )


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and values at times in seconds since 1970."""

    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs. Raises httpx.HTTPStatusError for a query that it refuses."""

    url: str

    def now(self, expr: str) -> list[Series]:
        """The value of each series at this moment."""
        found = self._ask("query", query=expr)["result"]
        return [_series(each["metric"], [each["value"]]) for each in found]

    def over(self, expr: str, begin_s: float, end_s: float, step_s: float) -> list[Series]:
        """The values of each series between two times, both in seconds since 1970."""
        found = self._ask("query_range", query=expr, start=begin_s, end=end_s, step=step_s)[
            "result"
        ]
        return [_series(each["metric"], each["values"]) for each in found]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health, last error and, of alerts, state."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **parameters: str | float) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=60)
        answer.raise_for_status()
        return answer.json()["data"]


def _series(labels: dict[str, str], points: Sequence[Sequence[Any]]) -> Series:
    return Series(labels, [float(t) for t, _ in points], [float(v) for _, v in points])


# ---------------------------------------------------------------------- processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def prometheus(target: str, folder: Path, *, at_once: bool = False) -> Iterator[Prometheus]:
    """The shipped configuration, which scrapes `target` (host:port) every second instead, in an
    empty folder; `at_once`: alerts fire when they are pending.

    Raises MissingPrometheusError, and RuntimeError when it does not start.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingPrometheusError
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={_configuration(target, folder, at_once)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=error",
    ]
    with _process(command, f"{url}/-/ready"):
        yield Prometheus(url)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until something is true. Raises RuntimeError when it does not come true in time."""
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


@contextmanager
def _process(command: Sequence[str], ready: str) -> Iterator[None]:
    process = subprocess.Popen(command)

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        try:
            return httpx.get(ready, timeout=10).is_success
        except httpx.TransportError:
            return False

    try:
        until(answers, START_S, f"{Path(command[0]).name} gets ready")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _configuration(target: str, folder: Path, at_once: bool) -> Path:
    shutil.copytree(SHIPPED / "rules", folder / "rules")
    if at_once:
        for path in (folder / "rules").glob("*.yml"):
            rules = yaml.safe_load(path.read_text("utf-8"))
            for rule in (rule for group in rules["groups"] for rule in group["rules"]):
                rule.pop("for", None)
            path.write_text(yaml.safe_dump(rules), "utf-8")
    config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text("utf-8"))
    config["global"] = dict.fromkeys(config["global"], "1s")
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path
