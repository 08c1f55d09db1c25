"""Tiny artifacts, the models loaded from them, and one server for tests that do not change it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.models.load import Models, load
from tests.nets import write_tiny_artifacts
from tests.serving.helpers import Running, running


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    write_tiny_artifacts(root, decode=(4,))
    return root


@pytest.fixture(scope="session")
def models(artifacts: Path) -> Models:
    return load(artifacts, threads=1)


@pytest.fixture(scope="session")
def any_steps(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Models]:
    """The text models, by the number of tokens that one call draws."""
    root = tmp_path_factory.mktemp("steps")
    write_tiny_artifacts(root, decode=(1, 4, 8))
    return {steps: load(root, threads=1, steps=steps) for steps in (1, 4, 8)}


@pytest.fixture(scope="session")
def server(models: Models) -> Iterator[Running]:
    with running(models, max_body_bytes=200_000, max_image_pixels=250_000) as server:
        yield server
