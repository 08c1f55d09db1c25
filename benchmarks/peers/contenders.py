"""Servers as processes, each with the environment and the command that its documentation names, and
how the same picture is sent to it. Those that are not measured are stopped (SIGSTOP)."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from benchmarks.peers.classifier import ARTIFACT
from loadtest.workload import Call
from luminanet.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements" / "peers.txt"
READY_WITHIN_S = 120.0
END_S = 20.0
MARK = b"a-picture-for-peers"

Ask = Callable[[bytes], Call]
"""The bytes of a PNG -> the request."""


def form(field: str) -> Ask:
    """A multipart form with one file."""

    def ask(picture: bytes) -> Call:
        head = b'Content-Disposition: form-data; name="%b"; filename="picture.png"' % field.encode()
        body = b"--%b\r\n%b\r\nContent-Type: image/png\r\n\r\n%b\r\n--%b--\r\n"
        kind = f"multipart/form-data; boundary={MARK.decode()}"
        return Call("/classify", body % (MARK, head, picture, MARK), kind)

    return ask


def in_json(picture: bytes) -> Call:
    body = json.dumps({"image": base64.b64encode(picture).decode()}).encode()
    return Call("/classify", body, "application/json")


@dataclass(frozen=True, slots=True)
class Contender:
    """`command` follows the interpreter's folder: its first word is a program there; PORT is put in
    place of the port."""

    name: str
    command: Sequence[str]
    ask: Ask
    ours: bool = False


PORT = "PORT"
UVICORN = ("uvicorn", "benchmarks.peers.fastapi_app:app", "--port", PORT, "--log-level", "error")
BENTO = "benchmarks.peers.bentoml_app:Pictures"


def contenders(artifacts: Path) -> list[Contender]:
    workers = str(len(os.sched_getaffinity(0)))
    serve = ("python", "-m", "serving", "--artifacts", str(artifacts), "--port", PORT)
    return [
        Contender("LuminaNet", serve, form("file"), ours=True),
        Contender("LuminaNet, JSON", serve, in_json, ours=True),
        Contender("LitServe", ("python", "-m", "benchmarks.peers.litserve_app", PORT), in_json),
        Contender(
            "BentoML",
            ("bentoml", "serve", BENTO, "--host", "127.0.0.1", "--port", PORT),
            form("images"),
        ),
        Contender("FastAPI", UVICORN, form("file")),
        Contender(f"FastAPI, {workers} workers", (*UVICORN, "--workers", workers), form("file")),
    ]


def environment(folder: Path) -> Path:
    """The folder with the programs of the peers; made when it is not there. Raises ConfigError."""
    stamp, text = folder / "requirements.txt", REQUIREMENTS.read_text("utf-8")
    if not stamp.exists() or stamp.read_text("utf-8") != text:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--no-deps", "-r", str(REQUIREMENTS)]).returncode:
            raise ConfigError(f"pip cannot install {REQUIREMENTS}: see above")
        stamp.write_text(text, "utf-8")
    return folder / "bin"


class Running:
    """A contender that serves; it is stopped outside of `awake`."""

    def __init__(self, contender: Contender, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.contender, self.url = contender, url
        self._process = process

    @contextmanager
    def awake(self) -> Iterator[None]:
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGSTOP)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that it and its workers took so far."""
        first = psutil.Process(self._process.pid)
        times = [one.cpu_times() for one in (first, *first.children(recursive=True))]
        return float(sum(time.user + time.system for time in times))

    def label(self, call: Call) -> str:
        """What it says of the picture. Raises DataError when it does not answer in time."""
        end_s, told = time.monotonic() + READY_WITHIN_S, "no answer"
        headers = {"Content-Type": call.content_type}
        while time.monotonic() < end_s and self._process.poll() is None:
            try:
                with urlopen(
                    Request(self.url + call.path, call.body, headers), timeout=10
                ) as answer:
                    found = json.loads(answer.read())
                    return str((found[0] if isinstance(found, list) else found)["label"])
            except (URLError, OSError, ValueError, LookupError) as error:
                told = str(error)
            time.sleep(0.2)
        raise DataError(f"{self.contender.name} does not serve: {told}")

    def end(self) -> None:
        """It and its workers."""
        os.killpg(self._process.pid, signal.SIGCONT)
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(found: Sequence[Contender], peers: Path, artifact: Path) -> Iterator[list[Running]]:
    """All of them, on free ports of the loopback; they end with the block."""
    with ExitStack() as open_:
        servers = []
        for contender in found:
            server = _start(contender, peers, artifact)
            open_.callback(server.end)
            servers.append(server)
        yield servers


def _start(contender: Contender, peers: Path, artifact: Path) -> Running:
    programs = Path(sys.executable).parent if contender.ours else peers
    port = str(_free_port())
    command = [port if word == PORT else word for word in contender.command]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LUMINANET_", "OMP_"))}
    variables: Mapping[str, str] = {
        **kept,
        "PYTHONPATH": str(ROOT),
        ARTIFACT: str(artifact),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    process = subprocess.Popen(
        [str(programs / command[0]), *command[1:]],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Running(contender, process, f"http://127.0.0.1:{port}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
