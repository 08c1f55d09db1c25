"""Configuration and data -> a task: batches, and what the first model is built from."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config
from training.baselines.gpt2 import Gpt2, fitting
from training.baselines.registry import BASELINES, Baseline, Recipe
from training.config import TrainConfig
from training.data.batches import ImageSource, Source, TextSource
from training.data.corpus import open_corpus
from training.data.datasets import load_images
from training.data.tables import BY_NAME, Columns
from training.model.initial import channel_statistics, initial_net
from training.model.network import Network, NetworkOptions, Whitening
from training.model.whitening import whitening
from training.step.distillation import answers, load_text
from training.step.distillation import load as load_teacher
from training.step.trainer import Model
from training.topologies import SEEDINGS

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
    if not config.is_text:
        images = load_images(folder, "train", columns)
        source = ImageSource(images, config, len(images.names))
        if config.teacher:
            teacher = load_teacher(Path(config.teacher))
            source.taught_NL = answers(teacher, source, device, config.precision)
        if config.model in BASELINES:
            recipe = Recipe(config.model, *channel_statistics(images.pixels_NCYX))
            return Task(source, recipe, None, images.names)
        topology = SEEDINGS[config.seeding](config.width, config.channel, config.vocab_size)
        net = initial_net(topology, config.seed, images.pixels_NCYX)
        pixels_NCYX = torch.from_numpy(images.pixels_NCYX)
        white = whitening(net, pixels_NCYX, config.whiten) if config.whiten else {}
        return Task(source, net, None, images.names, white)
    corpus = open_corpus(folder, tokenizer, config.vocab_size, cache, columns)
    text, words = TextSource(corpus.tokens, config), corpus.tokenizer
    if config.model == "gpt2":
        heads = max(1, config.width // config.head_width)
        sizes = (config.context, config.width, heads, config.layers)
        first: First = Gpt2Config(words.vocab_size, *sizes)
    else:
        topology = SEEDINGS[config.seeding](config.width, config.channel, words.vocab_size)
        first = initial_net(topology, config.seed)
    task = Task(text, first, words.to_json(), ())
    if config.teacher:
        return replace(task, teacher=load_text(Path(config.teacher), words, config.context))
    return task


def build(task: Task, config: TrainConfig) -> Model:
    first = task.first_net
    match first:
        case Gpt2Config():
            deviation = config.deviation or fitting(first.width)
            return Gpt2(first, config.seed, config.dropout, deviation)
        case Recipe():
            return Baseline(first, config.seed)
        case FrozenNet():
            options = NetworkOptions(config.dropout, config.habit_dropout, config.shared_gates)
            return Network(first, options, task.white)
