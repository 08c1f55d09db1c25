"""Runs engine_worker.py in a process of its own: progress, a time limit, and what became of it."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from luminanet.errors import ExportError

WORKER = Path(__file__).with_name("engine_worker.py")
ADVICE = (
    "the ONNX artifact is whole and can be served without a plan; to try again, use another "
    "version of TensorRT or another --form"
)


def run(job: Mapping[str, Any], limit_s: float, progress: Callable[[str], None]) -> None:
    """Runs one job (engine_worker.py says what is in it), and tells what it is doing.

    Raises ExportError when the builder refuses, crashes or takes longer than `limit_s`.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, tempfile.TemporaryFile() as log:
        json.dump(job, file)
        file.flush()
        # -P: the folder of the script must not hide TensorRT's own modules
        command = [sys.executable, "-P", str(WORKER), file.name]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
        )
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            error = _listen(child, progress)
            status = child.wait()
        finally:
            timer.cancel()
            child.kill()
            child.communicate()
        if late.is_set():
            raise ExportError(
                f"TensorRT took more than {limit_s:g} s and was ended: give it more with "
                "--limit-s, or leave out the profile of the largest batch"
            )
        if status:
            raise ExportError(_reason(job["module"], status, error, _tail(log)))


def _listen(child: subprocess.Popen[str], progress: Callable[[str], None]) -> str | None:
    """Passes progress on until the child is silent; returns the error it told."""
    error = None
    assert child.stdout
    for line in child.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a library that prints
        if isinstance(event, dict):
            error = event.get("error", error)
            if "progress" in event:
                progress(str(event["progress"]))
    return error


def _reason(module: str, status: int, error: str | None, log: str) -> str:
    if error:
        return f"{module} builds no plan: {' '.join(error.split())}"
    last = f"; its last words: {log}" if log else ""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"the builder of {module} crashed ({name}){last}; {ADVICE}"
    return f"the builder of {module} ended with exit status {status}{last}; {ADVICE}"


def _tail(log: IO[bytes], limit: int = 300) -> str:
    """The end of what was logged, on one line."""
    log.seek(0)
    return " ".join(log.read().decode("utf-8", "replace").split())[-limit:]
