"""Tiny networks, to see what a server exports."""

from pathlib import Path

import pytest

from serving.models.load import Models, load
from tests.nets import write_tiny_artifacts


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root: Path = tmp_path_factory.mktemp("artifacts")
    write_tiny_artifacts(root, decode=(4,))
    return load(root, threads=1)
