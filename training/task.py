"""Configuration and data -> a task: batches, and what the first model is built from."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from luminanet.errors import DataError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config
from luminanet.tokenizer import Tokenizer
from training.baselines.gpt2 import Gpt2
from training.baselines.registry import BASELINES, Baseline, Recipe
from training.batches import ImageSource, Source, TextSource
from training.config import TrainConfig
from training.data import LABELS, load_images, load_stories, tokenize
from training.initial import channel_statistics, initial_net
from training.network import Network, Whitening
from training.seedings import SEEDINGS
from training.teacher import answers
from training.teacher import load as load_teacher
from training.trainer import Model
from training.whitening import whitening

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


def prepare(
    config: TrainConfig,
    folder: Path | None,
    tokenizer: Path | None,
    device: torch.device = CPU,
) -> Task:
    """Loads, tokenizes and asks the teacher, if there is one, on `device`; the tokenizer is
    trained on the training stories unless given."""
    if not config.is_text:
        images = load_images(folder, "train")
        source = ImageSource(images, config, len(LABELS))
        if config.teacher:
            teacher = load_teacher(Path(config.teacher))
            source.taught_NL = answers(teacher, source, device)
        if config.model in BASELINES:
            recipe = Recipe(config.model, *channel_statistics(images.pixels_NCYX))
            return Task(source, recipe, None, LABELS)
        topology = SEEDINGS[config.seeding](config.width, config.channel, config.vocab_size)
        net = initial_net(topology, config.seed, images.pixels_NCYX)
        pixels_NCYX = torch.from_numpy(images.pixels_NCYX)
        white = whitening(net, pixels_NCYX, config.whiten) if config.whiten else {}
        return Task(source, net, None, LABELS, white)
    stories = load_stories(folder, "train")
    if tokenizer is None:
        words = Tokenizer.train(stories, config.vocab_size)
    elif tokenizer.is_file():
        words = Tokenizer.from_json(tokenizer.read_text("utf-8"))
    else:
        raise DataError(f"the tokenizer {tokenizer} is not there: check --tokenizer")
    text = TextSource(tokenize(stories, words), config)
    if config.model == "gpt2":
        heads = max(1, config.width // 32)
        first: First = Gpt2Config(words.vocab_size, config.context, config.width, heads)
    else:
        topology = SEEDINGS[config.seeding](config.width, config.channel, words.vocab_size)
        first = initial_net(topology, config.seed)
    return Task(text, first, words.to_json(), ())


def build(task: Task, config: TrainConfig) -> Model:
    first = task.first_net
    match first:
        case Gpt2Config():
            return Gpt2(first, config.seed, config.dropout)
        case Recipe():
            return Baseline(first, config.seed)
        case FrozenNet():
            return Network(first, config.dropout, task.white)
