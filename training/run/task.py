"""Configuration and data -> a task: batches, and what the first model is built from."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config
from luminanet.topology import Topology
from training.baselines.gpt2 import Gpt2, fitting
from training.baselines.registry import Baseline, Recipe
from training.config import (
    Gpt2Model,
    ImageBaseline,
    ImageConfig,
    ImageLuminaNet,
    TextLuminaNet,
    TrainConfig,
)
from training.data.batches import ImageSource, Source, TextSource
from training.data.corpus import open_corpus
from training.data.datasets import Images, load_images
from training.data.tables import BY_NAME, Columns
from training.model.initial import channel_statistics, initial_net
from training.model.network import Network, NetworkOptions, Whitening
from training.model.whitening import whitening
from training.step.distillation import answers, load_text
from training.step.distillation import load as load_teacher
from training.step.trainer import Model
from training.topologies import IMAGE_SEEDINGS, TEXT_SEEDINGS

CPU = torch.device("cpu")
First = FrozenNet | Gpt2Config | Recipe
"""What a model is built from; the seed draws the weights that it does not hold."""


@dataclass(frozen=True, slots=True)
class Task:
    """Data of a run, ready to train on."""

    source: Source
    first_net: First
    tokenizer: str | None
    labels: tuple[str, ...]
    white: Whitening = field(default_factory=dict)
    teacher: Gpt2 | None = None
    """Of text; the answers of an image's teacher are in the source."""


def prepare(
    config: TrainConfig,
    folder: Path | None,
    tokenizer: Path | None,
    device: torch.device = CPU,
    cache: Path | None = None,
    columns: Columns = BY_NAME,
) -> Task:
    """Loads, tokenizes and asks the teacher, if there is one, on `device`; the tokenizer is
    trained on the training stories unless given. Tokens are kept in `cache` (data/corpus.py)."""
    if isinstance(config, ImageConfig):
        return _prepare_images(config, folder, device, columns)
    corpus = open_corpus(folder, tokenizer, config.vocab_size, cache, columns)
    source, words, model = TextSource(corpus.tokens, config), corpus.tokenizer, config.model
    if isinstance(model, Gpt2Model):
        heads = max(1, model.width // model.head_width)
        sizes = (config.context, model.width, heads, model.layers)
        first: First = Gpt2Config(words.vocab_size, *sizes)
    else:
        topology = TEXT_SEEDINGS[model.seeding](model.width, model.channel, words.vocab_size)
        first = initial_net(topology, config.seed)
    teacher = config.teacher and load_text(Path(config.teacher), words, config.context)
    return Task(source, first, words.to_json(), (), teacher=teacher or None)


def _prepare_images(
    config: ImageConfig, folder: Path | None, device: torch.device, columns: Columns
) -> Task:
    images, model = load_images(folder, "train", columns), config.model
    source = ImageSource(images, config, len(images.names))
    if config.teacher:
        teacher = load_teacher(Path(config.teacher))
        source.taught_NL = answers(teacher, source, device, config.precision)
    if isinstance(model, ImageBaseline):
        recipe = Recipe(model.name, *channel_statistics(images.pixels_NCYX))
        return Task(source, recipe, None, images.names)
    topology = IMAGE_SEEDINGS[model.seeding](model.width, model.channel, 0)
    return luminanet_task(source, images, topology, config)


def luminanet_task(
    source: ImageSource, images: Images, topology: Topology, config: ImageConfig
) -> Task:
    """Of a LuminaNet on pictures that starts from a topology, whatever seeding `config` names."""
    model = config.model
    assert isinstance(model, ImageLuminaNet)
    net = initial_net(topology, config.seed, images.pixels_NCYX)
    pixels_NCYX = torch.from_numpy(images.pixels_NCYX)
    white = whitening(net, pixels_NCYX, model.whiten) if model.whiten else {}
    return Task(source, net, None, images.names, white)


def build(task: Task, config: TrainConfig) -> Model:
    model = config.model
    match task.first_net:
        case Gpt2Config() as first if isinstance(model, Gpt2Model):
            deviation = model.deviation or fitting(first.width)
            return Gpt2(first, config.seed, model.dropout, deviation)
        case Recipe() as recipe:
            return Baseline(recipe, config.seed)
        case FrozenNet() as net if isinstance(model, TextLuminaNet):
            options = NetworkOptions(model.dropout, model.habit_dropout, model.shared_gates)
            return Network(net, options)
        case FrozenNet() as net if isinstance(model, ImageLuminaNet):
            return Network(net, NetworkOptions(model.dropout), task.white)
    raise AssertionError(f"{config.preset} is not of this task")
