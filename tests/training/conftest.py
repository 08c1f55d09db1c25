from pathlib import Path

import pytest
import torch

from tests.datasets import write_images, write_stories
from training.config import ImageConfig
from training.data.batches import ImageSource
from training.data.datasets import LABELS, load_images
from training.model.initial import initial_net
from training.model.network import Network
from training.presets import IMAGE_PRESETS
from training.step.trainer import Trainer
from training.topologies import SEEDINGS

SMALL = IMAGE_PRESETS["cifar10"].having(steps=40, batch=16, width=8, channel=4, held_out=0.2)

torch.set_num_threads(1)  # the networks are so small that threads would only wait


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both generated data sets."""
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    write_stories(folder)
    return folder


@pytest.fixture
def small() -> ImageConfig:
    return SMALL


@pytest.fixture
def source(data: Path) -> ImageSource:
    return ImageSource(load_images(data, "train"), SMALL, len(LABELS))


@pytest.fixture
def trainer(source: ImageSource) -> Trainer:
    net = initial_net(SEEDINGS["paper"](8, 4, 0), 0)
    trainer = Trainer(Network(net), SMALL, torch.device("cpu"))
    for step in range(3):
        trainer.train(source.batch(step))
    return trainer
