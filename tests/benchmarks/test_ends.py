"""Ends that no stream may notice, on a real server with tiny networks."""

import asyncio
import random
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks import ends
from luminanet.errors import DataError
from serving.measure.servers import served
from tests.nets import write_tiny_artifacts

KEY = "of the admin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ends")
    write_tiny_artifacts(path / "artifacts", decode=(4,))
    (path / "keys").write_text(sha256(KEY.encode()).hexdigest())
    return path


@pytest.fixture
def flags(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(ends, "PROMPTS", ("a", "Once"))
    keys = f"--admin-key-file={folder / 'keys'}"
    return [f"--artifacts={folder / 'artifacts'}", "--threads=1", keys]


def test_streams_end_whole_at_a_sigterm(flags: list[str]) -> None:
    with served(flags) as server:
        whole, broken = asyncio.run(ends.ended(server.url, server.pid, random.Random(0)))
    assert (whole, broken) == (ends.STREAMS, 0)


def test_streams_end_whole_and_unchanged_when_the_models_are_loaded_anew(flags: list[str]) -> None:
    with served(flags) as server:
        found = asyncio.run(ends.reloaded(server.url, KEY))
        with pytest.raises(DataError, match="not loaded anew"):
            asyncio.run(ends.reloaded(server.url, "another key"))
    assert (found.broken, found.changed) == (0, 0)
