from pathlib import Path

import pytest
import torch

from tests.datasets import write_images, write_stories

torch.set_num_threads(1)  # the networks are so small that threads would only wait


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both generated data sets."""
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    write_stories(folder)
    return folder
